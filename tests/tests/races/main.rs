//! Races between two CPUs, driven exactly: one CPU runs while the other stands at an instruction of its way.
//!
//! | module | what it holds |
//! |---|---|
//! | [`track`] | puts the other CPU at an instruction, lets the owner go on, says who may do what |
//! | [`drive`] | one race after the other, one instruction after the other |
//! | [`taking`] | something is taken away or ended under a thread that uses it |
//! | [`load`] | not driven: many threads on 1, 2, 4 and 8 CPUs |
//! | [`meeting`] | both sides are in the kernel: calls, revokes |
//! | [`waking`] | a signal, and who goes to sleep: either side at each instruction of its way |
//!
//! With `PORTCULLIS_FULL=1` every instruction of the other CPU's way that lies outside of the kernel's lock is tried in every
//! race, without it each at least once over the races; of those inside a few, ten times as many in the full run.
#![forbid(unsafe_code)]

mod drive;
mod load;
mod meeting;
mod taking;
mod track;
mod waking;
