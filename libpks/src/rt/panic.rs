//! A panic is a fault of the domain: nothing unwinds, the kernel ends the domain and keeps the message.

use super::start::abort;
use super::text::cut;
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let message = info.message();
    let text = match info.location() {
        Some(place) => cut::<256>(format_args!("{}:{}: {message}", place.file(), place.line())),
        None => cut(format_args!("{message}")),
    };
    abort(&text)
}
