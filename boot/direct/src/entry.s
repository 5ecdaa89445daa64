# The loader's ways in and out: PVH entry, the way to the kernel, and the APs' start and parking.
#
# AT&T syntax, because LLVM's Intel syntax misassembles some of what 32-bit code needs. The image is
# linked and loaded at the same low address, so 32-bit code may name absolute addresses.

    .set CODE32, 0x18
    .set DATA32, 0x20
    .set CODE64, 0x28
    .set DATA64, 0x30
    .set MSR_EFER, 0xc0000080
    .set MSR_PAT, 0x277

    .macro load_segments selector
    movl $\selector, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    .endm

# PVH: an ELF note of name "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY), holds the 32-bit entry point.
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_entry

    .section .text.entry, "ax"
    .code32
# In: EBX = physical address of start_info, flat segments, paging off. EAX differs between machines.
    .global pvh_entry
pvh_entry:
    cli
    cld
    lgdtl boot_gdt_pointer
    ljmpl $CODE32, $.Lflat
.Lflat:
    load_segments DATA32
    movl %ebx, %ebp
    movl $bss_start, %edi
    movl $bss_end, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb
    movl $boot_stack_top, %esp

    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc no_long_mode

    # Identity map of 4 GiB with 2 MiB pages, which every CPU with long mode has.
    movl $boot_pdpt + 3, boot_pml4
    movl $boot_pdpt, %edi
    movl $boot_pds + 3, %eax
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $4096, %eax
    loop 1b
    movl $boot_pds, %edi
    movl $0x83, %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    loop 1b

    movl %cr4, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    ljmpl $CODE64, $.Llong
    .code64
.Llong:
    load_segments DATA64
    movl %ebp, %edi
    call loader_main
    ud2

    .code32
no_long_mode:
    movl $no_long_mode_text, %esi
    movw $0x3f8, %dx
1:  lodsb
    testb %al, %al
    jz 2f
    outb %al, %dx
    jmp 1b
2:  movb $0x12, %al
    outb %al, $0xf4
3:  hlt
    jmp 3b

# The way to the kernel, for the bootstrap processor. In: `HANDOFF` filled in. Does not return.
    .code64
    .global leave_for_kernel
leave_for_kernel:
    cli
    cld
    pushq $CODE32
    pushq $.Lcompat
    lretq
    .code32
.Lcompat:
    load_segments DATA32
    xorl %edi, %edi
    jmp switch_paging

# An AP comes here from its trampoline with a flat CS and CR0 = 11h.
ap_entry:
    load_segments DATA32
    movl $1, %edi

# LA57 cannot change while paging is on (Intel SDM vol. 3A 4.1.2), hence this detour through 32-bit
# code for both numbers of levels. EDI: 0 = bootstrap processor, 1 = AP. No stack is used.
switch_paging:
    movl $0x11, %eax
    movl %eax, %cr0
    movl $MSR_EFER, %ecx
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
    movl %eax, %cr4
    lldt %ax

    movl $1, %eax
    cpuid
    btl $16, %edx
    jnc 1f
    movl $MSR_PAT, %ecx
    movl $0x00070406, %eax      # WB, WT, UC-, UC
    movl $0x00000105, %edx      # WP, WC
    wrmsr
1:
    movl HANDOFF + 4, %eax
    movl %eax, %cr4
    movl HANDOFF, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    movl HANDOFF + 8, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80010011, %eax      # PG, WP, ET, PE
    movl %eax, %cr0
    ljmpl $CODE64, $.Lpaged
    .code64
.Lpaged:
    load_segments DATA64
    lidt no_idt_pointer(%rip)
    movq HANDOFF + 16(%rip), %rax
    leaq .Lhigh(%rip), %rcx
    addq %rax, %rcx
    jmpq *%rcx
.Lhigh:                         # from here on in the higher half direct map
    lgdt HANDOFF + 40(%rip)
    testl %edi, %edi
    jnz ap_park

    # Drop the identity map. The APs have long left it; each reloads CR3 when it is released.
    movq %cr3, %rcx
    movq $0, (%rcx, %rax)
    movq %rcx, %cr3
    movq HANDOFF + 24(%rip), %rax
    movq HANDOFF + 32(%rip), %rsp
    xorl %edi, %edi

# RAX = where to go, RSP = top of its stack, RDI = argument: everything else becomes 0.
enter_kernel:
    pushq $0
    pushq %rax
    pushq $2
    popfq
    movl $0, %eax
    movl $0, %ebx
    movl $0, %ecx
    movl $0, %edx
    movl $0, %esi
    movl $0, %ebp
    movl $0, %r8d
    movl $0, %r9d
    movl $0, %r10d
    movl $0, %r11d
    movl $0, %r12d
    movl $0, %r13d
    movl $0, %r14d
    movl $0, %r15d
    retq

# An AP takes the MP information address out of its mailbox, which tells the loader that it runs,
# and waits for its goto_address. An empty mailbox means that the loader gave up on it.
ap_park:
    movl $1, %eax
    cpuid
    shrl $24, %ebx              # initial APIC id
    leaq MAILBOXES(%rip), %rcx
    xorl %edi, %edi
    xchgq %rdi, (%rcx, %rbx, 8)
    testq %rdi, %rdi
    jz 2f
1:  pause
    movq 16(%rdi), %rax
    testq %rax, %rax
    jz 1b
    movq %cr3, %rcx
    movq %rcx, %cr3
    movq 8(%rdi), %rsp
    jmp enter_kernel
2:  hlt
    jmp 2b

# Copied to a page below 1 MiB; a startup IPI begins it at offset 0 with CS = page / 16.
    .section .rodata.trampoline, "a"
    .code16
    .global ap_trampoline
ap_trampoline:
    jmp 1f
    .balign 8
    .word 7 * 8 - 1             # at offset 8: the GDT pointer
    .long boot_gdt
1:  cli
    cld
    lgdtl %cs:8
    movl $0x11, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $ap_entry
    .global ap_trampoline_end
ap_trampoline_end:

no_long_mode_text:
    .asciz "direct: this CPU has no long mode\r\n"

    .section .data.tables, "aw"
    .balign 8
# The layout that the Limine protocol fixes: 16-bit, 32-bit and 64-bit code and data.
    .global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00009b000000ffff, 0x000093000000ffff
    .quad 0x00cf9b000000ffff, 0x00cf93000000ffff
    .quad 0x00209b0000000000, 0x0000930000000000
boot_gdt_pointer:
    .word 7 * 8 - 1
    .long boot_gdt
no_idt_pointer:
    .word 0
    .quad 0

    .section .bss.boot, "aw", @nobits
    .balign 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pds: .skip 4 * 4096
    .skip 64 * 1024
boot_stack_top:
    .code64
