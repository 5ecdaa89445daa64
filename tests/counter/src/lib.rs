//! A plugin for QEMU's TCG: counts what a guest with one CPU executes between two marks (`libpks::proto::bench`).
//!
//! The image runs as it is. Each instruction is looked at when it is translated; what counts it is inserted then. Arguments,
//! as QEMU passes them: `out=FILE`, where the samples go, a line each; `trace=N`, the row of which one sample is told
//! instruction by instruction.
//!
//! The declarations are those of `qemu/qemu-plugin.h`, API version 1 (QEMU 4.2 to 8.0), as far as they are needed.

mod api;
mod sample;

use api::{Insn, Meminfo, PluginId, TranslationBlock};
use libpks::proto::bench::Mark;
use sample::{Kind, Recorder};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The version of the API that this is written for.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU looks for this name")]
pub static qemu_plugin_version: c_int = 1;

static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);

fn recorder() -> MutexGuard<'static, Option<Recorder>> {
    RECORDER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// QEMU calls it once, before the guest runs.
///
/// # Safety
/// `argv` has `argc` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    _info: *const c_void,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: as the caller promises.
    let arguments = (0..argc as usize).map(|n| unsafe { CStr::from_ptr(*argv.add(n)) }.to_string_lossy());
    let arguments: Vec<_> = arguments.collect();
    let value = |name| arguments.iter().find_map(|argument| argument.strip_prefix(name));
    let trace = value("trace=").and_then(|row| row.parse().ok());
    let Some(recorder) = value("out=").and_then(|path| Recorder::new(path, trace).ok()) else {
        eprintln!("counter: out=FILE is missing, or cannot be written");
        return -1;
    };
    *self::recorder() = Some(recorder);
    // SAFETY: the function has the type that the API asks for.
    unsafe { api::qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    0
}

/// A block of instructions is translated: each gets what counts it.
unsafe extern "C" fn translated(_id: PluginId, block: *mut TranslationBlock) {
    // SAFETY: the block and its instructions live as long as this function runs.
    let instructions = unsafe { api::qemu_plugin_tb_n_insns(block) };
    for n in 0..instructions {
        // SAFETY: there are so many.
        unsafe { instrument(api::qemu_plugin_tb_get_insn(block, n)) };
    }
}

/// # Safety
/// An instruction of the block that is being translated.
unsafe fn instrument(instruction: *mut Insn) {
    // SAFETY: the bytes are as many as the size says.
    let bytes = unsafe {
        let (data, size) = (api::qemu_plugin_insn_data(instruction), api::qemu_plugin_insn_size(instruction));
        std::slice::from_raw_parts(data.cast::<u8>(), size)
    };
    if let Some(mark) = Mark::of(bytes) {
        let mark = mark as u32 as usize as *mut c_void;
        // SAFETY: the function has the type that the API asks for, and takes any number as its data.
        unsafe { api::qemu_plugin_register_vcpu_insn_exec_cb(instruction, marked, api::NO_REGISTERS, mark) };
        return;
    }
    if sample::is_traced() {
        // SAFETY: as above; the data is the instruction's address, and nobody follows it.
        unsafe {
            let address = api::qemu_plugin_insn_vaddr(instruction) as usize as *mut c_void;
            api::qemu_plugin_register_vcpu_insn_exec_cb(instruction, executed, api::NO_REGISTERS, address);
        }
    }
    for kind in Kind::of(bytes) {
        // SAFETY: the counter is static. One CPU, so nobody else adds meanwhile.
        unsafe {
            api::qemu_plugin_register_vcpu_insn_exec_inline(instruction, api::ADD, kind.counter().cast(), 1);
        }
    }
    // SAFETY: as above.
    unsafe {
        api::qemu_plugin_register_vcpu_mem_cb(
            instruction,
            accessed,
            api::NO_REGISTERS,
            api::READS_AND_WRITES,
            std::ptr::null_mut(),
        );
    }
}

unsafe extern "C" fn marked(_cpu: c_uint, mark: *mut c_void) {
    if let Some(recorder) = recorder().as_mut() {
        recorder.mark(mark as usize as u32);
    }
}

unsafe extern "C" fn executed(_cpu: c_uint, address: *mut c_void) {
    if sample::is_counting()
        && let Some(recorder) = recorder().as_mut()
    {
        recorder.step(address as usize as u64);
    }
}

unsafe extern "C" fn accessed(_cpu: c_uint, _info: Meminfo, address: u64, _data: *mut c_void) {
    if sample::is_counting()
        && let Some(recorder) = recorder().as_mut()
    {
        recorder.touch(address);
    }
}
