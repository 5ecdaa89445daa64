//! What of `qemu/qemu-plugin.h` is used. QEMU itself has these functions; they are found when it loads the plugin.

use std::ffi::{c_int, c_uint, c_void};

/// Stands for the plugin.
pub(crate) type PluginId = u64;
/// What is known of a memory access.
pub(crate) type Meminfo = u32;

/// A block that is being translated.
#[repr(C)]
pub(crate) struct TranslationBlock {
    _opaque: [u8; 0],
}

/// An instruction of it.
#[repr(C)]
pub(crate) struct Insn {
    _opaque: [u8; 0],
}

/// The callback looks at no registers.
pub(crate) const NO_REGISTERS: c_int = 0;
/// Loads and stores.
pub(crate) const READS_AND_WRITES: c_int = 3;
/// Adds to a counter, inline.
pub(crate) const ADD: c_int = 0;

type TranslatedFn = unsafe extern "C" fn(PluginId, *mut TranslationBlock);
type ExecutedFn = unsafe extern "C" fn(c_uint, *mut c_void);
type AccessedFn = unsafe extern "C" fn(c_uint, Meminfo, u64, *mut c_void);

unsafe extern "C" {
    pub(crate) fn qemu_plugin_register_vcpu_tb_trans_cb(id: PluginId, callback_fn: TranslatedFn);
    pub(crate) fn qemu_plugin_tb_n_insns(block: *const TranslationBlock) -> usize;
    pub(crate) fn qemu_plugin_tb_get_insn(block: *const TranslationBlock, n: usize) -> *mut Insn;
    pub(crate) fn qemu_plugin_insn_data(instruction: *const Insn) -> *const c_void;
    pub(crate) fn qemu_plugin_insn_size(instruction: *const Insn) -> usize;
    pub(crate) fn qemu_plugin_insn_vaddr(instruction: *const Insn) -> u64;
    pub(crate) fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Insn,
        callback_fn: ExecutedFn,
        flags: c_int,
        data: *mut c_void,
    );
    pub(crate) fn qemu_plugin_register_vcpu_insn_exec_inline(
        instruction: *mut Insn,
        operation: c_int,
        counter: *mut c_void,
        value: u64,
    );
    pub(crate) fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut Insn,
        callback_fn: AccessedFn,
        flags: c_int,
        which: c_int,
        data: *mut c_void,
    );
}
