//! The Limine boot protocol as the answering side sees it: identifiers and structures.
//!
//! Source: Limine 8.2's protocol description and `limine.h`. Addresses are plain numbers here, since
//! they are the kernel's and not the loader's; a structure's bytes are what the kernel reads.

pub mod requests;

use zerocopy::{Immutable, IntoBytes};

/// The highest base revision that is answered.
pub const BASE_REVISION: u64 = 2;
/// The first half of every request's identifier.
pub const COMMON_MAGIC: [u64; 2] = [0xc7b1_dd30_df4c_8b88, 0x0a82_e883_a194_f07b];
/// What a base revision tag begins with.
pub const BASE_REVISION_MAGIC: [u64; 2] = [0xf956_2b2d_5c95_a6c8, 0x6a7b_3849_4453_6bdc];
/// What requests before it are dropped at.
pub const START_MARKER: [u64; 4] =
    [0xf6b8_f4b3_9de7_d1ae, 0xfab9_1a69_40fc_b9cf, 0x785c_6ed0_15d3_e316, 0x181e_920a_7852_b9d9];
/// What the search for requests ends at.
pub const END_MARKER: [u64; 2] = [0xadc0_e053_1bb1_0d03, 0x9572_709f_3176_4c62];

/// The second half of a request's identifier.
///
/// Where nothing else is said, a request has no fields, and its response is a revision of 0 followed
/// by numbers of 64 bits.
pub type RequestId = [u64; 2];

/// Bootloader info; answered by the addresses of name and version.
pub const BOOTLOADER_INFO: RequestId = [0xf550_38d8_e2a1_202f, 0x2794_26fc_f5f5_9740];
/// Firmware type; answered by its number.
pub const FIRMWARE_TYPE: RequestId = [0x8c2f_75d9_0bef_28a8, 0x7045_a468_8eac_00c3];
/// Stack size; field 0 is the size in bytes; answered by nothing more.
pub const STACK_SIZE: RequestId = [0x224e_f046_0a8e_8926, 0xe1cb_0fc2_5f46_ea3d];
/// Higher half direct map; answered by its offset.
pub const HHDM: RequestId = [0x48dc_f1cb_8ad2_b852, 0x6398_4e95_9a98_244b];
/// Paging mode; fields 0 to 2 are the preferred, highest and lowest mode, the latter two from
/// request revision 1 on; answered by the mode.
pub const PAGING_MODE: RequestId = [0x95c1_a0ed_ab09_44cb, 0xa4e5_cb38_42f7_488a];
/// Multiprocessor; answered by an [`MpResponse`].
pub const MULTIPROCESSOR: RequestId = [0x95a6_7b81_9a1b_857e, 0xa0b6_1b72_3b6a_73e0];
/// Memory map; answered by the count and the list of the addresses of [`MemoryMapEntry`].
pub const MEMORY_MAP: RequestId = [0x67cf_3d9d_378a_806f, 0xe304_acdf_c50c_3c62];
/// Entry point; field 0 is its virtual address; answered by nothing more.
pub const ENTRY_POINT: RequestId = [0x13d8_6c03_5a1c_d3e1, 0x2b0c_aa89_d8f3_026a];
/// Executable file; answered by the address of a [`File`].
pub const EXECUTABLE_FILE: RequestId = [0xad97_e90e_83f1_ed67, 0x31eb_5d1c_5ff2_3b69];
/// Modules; answered by the count and the list of the addresses of [`File`].
pub const MODULES: RequestId = [0x3e7e_2797_02be_32af, 0xca1c_4f3b_d128_0cee];
/// ACPI root pointer; answered by its virtual address.
pub const RSDP: RequestId = [0xc5e7_7b6b_397e_7b43, 0x2763_7845_accd_cf3c];
/// Date at boot; answered by the seconds since 1970.
pub const DATE_AT_BOOT: RequestId = [0x5027_46e1_84c0_88aa, 0xfbc5_ec83_e632_7893];
/// Executable address; answered by the physical and the virtual base.
pub const EXECUTABLE_ADDRESS: RequestId = [0x71ba_7686_3cc5_5f63, 0xb264_4a48_c516_a487];

/// A file: the kernel's or a module's.
#[derive(Debug, Clone, Copy, Default, IntoBytes, Immutable)]
#[repr(C)]
pub struct File {
    /// 0.
    pub revision: u64,
    /// Its first byte's virtual address, a multiple of 4 KiB.
    pub address: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The virtual address of its path.
    pub path: u64,
    /// The virtual address of its string, the kernel's command line.
    pub string: u64,
    /// Medium, network and partition data: all 0, the file came from none of these.
    pub origin: [u64; 9],
}

/// One CPU in the multiprocessor response. The kernel starts it by writing to `goto_address`.
#[derive(Debug, Clone, Copy, Default, IntoBytes, Immutable)]
#[repr(C)]
pub struct MpInfo {
    /// The ACPI processor UID.
    pub processor_id: u32,
    /// The local APIC's number.
    pub lapic_id: u32,
    /// Reserved by the protocol; here the top of the CPU's stack.
    pub stack_top: u64,
    /// Where it goes; it waits while this is 0.
    pub goto_address: u64,
    /// The kernel's.
    pub extra_argument: u64,
}

/// The multiprocessor response.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub struct MpResponse {
    /// 0.
    pub revision: u64,
    /// Bit 0: x2APIC mode was enabled, which it never is here.
    pub flags: u32,
    /// The bootstrap processor's local APIC.
    pub bsp_lapic_id: u32,
    /// How many CPUs there are.
    pub cpu_count: u64,
    /// The virtual address of the list of the addresses of their [`MpInfo`].
    pub cpus: u64,
}

/// One region of the memory map.
#[derive(Debug, Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
pub struct MemoryMapEntry {
    /// The physical address.
    pub base: u64,
    /// The length in bytes.
    pub length: u64,
    /// The number of [`crate::memory_map::Kind`].
    pub kind: u64,
}
