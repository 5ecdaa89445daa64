//! Compiles one server's table: names, sizes, ranges, words.

use libpks::abi::layout::STACK_MAX_BYTES;
use libpks::budget::{Budget, OVERRUN_DEFAULT_NS, OVERRUN_LEAST_NS, OVERRUN_LONGEST_NS};
use libpks::cap::CapRights;
use libpks::manifest::{Backoff, FORBIDDEN_PORTS, INIT, PortRange, PortValue, Powers, ServerEntry, Use};
use toml::Spanned;

use super::{Entry, Mistake, Problem, schema};

/// The most stacks of one server.
const MAX_ACTIVATIONS: i64 = 64;
/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;
/// The most bytes of a server's arguments: what fits its start information.
const MAX_ARGS: usize = 1024;
/// The longest wait that a back-off may have.
const LONGEST_WAIT_MS: u32 = 3_600_000;
/// What the boot files have as names already.
const RESERVED: [&str; 2] = ["kernel", "manifest"];
/// Lines that no device of a server is at.
const FORBIDDEN_IRQS: [(u8, &str); 2] = [(0, "interval timer"), (2, "cascade of the interrupt controllers")];

/// Compiles what can be told from the table alone.
pub(super) fn compile(entry: &Entry) -> Result<ServerEntry, Mistake> {
    let table = entry.table;
    let name = checked_name(entry, &table.name)?;
    if RESERVED.contains(&name.as_str()) {
        return Err(entry.mistake(&table.name, Problem::ReservedName(name)));
    }
    let image = table.image.as_ref().map_or(Ok(name.clone()), |image| checked_name(entry, image))?;
    let priority = *table.priority.get_ref();
    let priority =
        u8::try_from(priority).map_err(|_| entry.mistake(&table.priority, Problem::Priority(priority)))?;
    let memory = size(entry, &table.memory)?;
    let stack = size(entry, &table.stack)?;
    if stack > STACK_MAX_BYTES {
        return Err(entry.mistake(&table.stack, Problem::StackTooLarge(stack, STACK_MAX_BYTES)));
    }
    let activations = activations(entry)?;
    if stack * u64::from(activations) > memory {
        let problem = Problem::QuotaTooSmall { activations, stack, memory };
        return Err(entry.mistake(&table.memory, problem));
    }
    Ok(ServerEntry {
        image,
        priority,
        tier: table.tier,
        memory,
        stack,
        budget: budget(entry)?,
        overrun_ns: overrun(entry)?,
        activations,
        restart: table.restart,
        provides: each(&table.provides, |endpoint| checked_name(entry, endpoint))?,
        uses: each(&table.uses, |used| compile_use(entry, used))?,
        ports: each(&table.ports, |ports| port_range(entry, ports))?,
        irqs: each(&table.irqs, |irq| line(entry, irq))?,
        powers: powers(entry, &name)?,
        args: args(entry)?,
        backoff: backoff(entry)?,
        quiesce: each(&table.quiesce, |value| port_value(entry, value))?,
        name,
    })
}

fn each<T, U>(items: &[T], compile: impl Fn(&T) -> Result<U, Mistake>) -> Result<Vec<U>, Mistake> {
    items.iter().map(compile).collect()
}

fn checked_name(entry: &Entry, name: &Spanned<String>) -> Result<String, Mistake> {
    let text = name.get_ref();
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    let good = text.len() <= 31
        && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && text.bytes().all(known);
    if !good {
        return Err(entry.mistake(name, Problem::BadName(text.clone())));
    }
    Ok(text.clone())
}

fn size(entry: &Entry, value: &Spanned<String>) -> Result<u64, Mistake> {
    let text = value.get_ref();
    let bytes = parse_size(text).ok_or_else(|| entry.mistake(value, Problem::BadSize(text.clone())))?;
    if bytes == 0 || bytes % 4096 != 0 {
        return Err(entry.mistake(value, Problem::UnalignedSize(bytes)));
    }
    Ok(bytes)
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_once(' ')?;
    let factor: u64 = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    // `parse` alone would take a plus sign.
    let number: u64 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(factor)
}

fn activations(entry: &Entry) -> Result<u16, Mistake> {
    let Some(value) = &entry.table.activations else { return Ok(1) };
    match *value.get_ref() {
        number @ 1..=MAX_ACTIVATIONS => Ok(number as u16),
        other => Err(entry.mistake(value, Problem::Activations(other))),
    }
}

fn budget(entry: &Entry) -> Result<Budget, Mistake> {
    let Some(value) = &entry.table.budget else { return Ok(Budget::DEFAULT) };
    let &schema::Time { ms, every_ms } = value.get_ref();
    let ns = |ms: i64| u64::try_from(ms).unwrap_or(0).saturating_mul(MS);
    Budget::new(ns(ms), ns(every_ms))
        .map_err(|error| entry.mistake(value, Problem::Budget { ms, every_ms, error }))
}

fn overrun(entry: &Entry) -> Result<u64, Mistake> {
    let Some(value) = &entry.table.overrun_ms else { return Ok(OVERRUN_DEFAULT_NS) };
    let ms = *value.get_ref();
    let ns = u64::try_from(ms).unwrap_or(0).saturating_mul(MS);
    if !(OVERRUN_LEAST_NS..=OVERRUN_LONGEST_NS).contains(&ns) {
        return Err(
            entry.mistake(value, Problem::Overrun(ms, OVERRUN_LEAST_NS / MS, OVERRUN_LONGEST_NS / MS))
        );
    }
    Ok(ns)
}

fn compile_use(entry: &Entry, used: &Spanned<schema::Use>) -> Result<Use, Mistake> {
    let schema::Use { endpoint, badge, rights, .. } = used.get_ref();
    let mut compiled = CapRights::empty();
    for right in rights {
        compiled |= match right.as_str() {
            "call" => CapRights::CALL,
            "grant" => CapRights::GRANT,
            _ => return Err(entry.mistake(used, Problem::UnknownRight(right.clone()))),
        };
    }
    if !compiled.contains(CapRights::CALL) {
        return Err(entry.mistake(used, Problem::UseWithoutCall));
    }
    let badge = u64::try_from(*badge).map_err(|_| entry.mistake(used, Problem::Badge(*badge)))?;
    Ok(Use { endpoint: endpoint.clone(), badge, rights: compiled })
}

fn port_range(entry: &Entry, ports: &Spanned<schema::Ports>) -> Result<PortRange, Mistake> {
    let &schema::Ports { from, to } = ports.get_ref();
    let range = match (u16::try_from(from), u16::try_from(to)) {
        (Ok(first), Ok(last)) if first <= last => PortRange { from: first, to: last },
        _ => return Err(entry.mistake(ports, Problem::PortRange(from, to))),
    };
    match FORBIDDEN_PORTS.iter().find(|(forbidden, _)| forbidden.overlaps(range)) {
        Some((_, what)) => Err(entry.mistake(ports, Problem::ForbiddenPorts(range.from, range.to, what))),
        None => Ok(range),
    }
}

fn line(entry: &Entry, irq: &Spanned<i64>) -> Result<u8, Mistake> {
    let number = *irq.get_ref();
    let number = u8::try_from(number).map_err(|_| entry.mistake(irq, Problem::Irq(number)))?;
    match FORBIDDEN_IRQS.iter().find(|(forbidden, _)| *forbidden == number) {
        Some((_, owner)) => Err(entry.mistake(irq, Problem::ForbiddenIrq(number, owner))),
        None => Ok(number),
    }
}

fn powers(entry: &Entry, server: &str) -> Result<Powers, Mistake> {
    let mut powers = Powers::empty();
    for word in &entry.table.powers {
        powers |= match word.get_ref().as_str() {
            "all" if server == INIT => Powers::all(),
            "all" => return Err(entry.mistake(word, Problem::AllPowers(server.to_owned()))),
            text => Powers::from_word(text).ok_or_else(|| {
                let known = Powers::WORDS.map(|(word, _)| word).join(", ");
                entry.mistake(word, Problem::UnknownPower(text.to_owned(), known))
            })?,
        };
    }
    Ok(powers)
}

fn backoff(entry: &Entry) -> Result<Backoff, Mistake> {
    let Some(value) = &entry.table.backoff else { return Ok(Backoff::default()) };
    let schema::Backoff { first, longest } = value.get_ref();
    let (first_ms, longest_ms) = (time(entry, first)?, time(entry, longest)?);
    if longest_ms < first_ms {
        let problem = Problem::BackoffBackwards { first: first_ms, longest: longest_ms };
        return Err(entry.mistake(value, problem));
    }
    Ok(Backoff { first_ms, longest_ms })
}

/// Milliseconds.
fn time(entry: &Entry, value: &Spanned<String>) -> Result<u32, Mistake> {
    let text = value.get_ref();
    parse_time(text).ok_or_else(|| entry.mistake(value, Problem::BadTime(text.clone())))
}

fn parse_time(text: &str) -> Option<u32> {
    let (digits, unit) = text.split_once(' ')?;
    let factor: u32 = match unit {
        "ms" => 1,
        "s" => 1000,
        _ => return None,
    };
    let number: u32 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    number.checked_mul(factor).filter(|&ms| ms <= LONGEST_WAIT_MS)
}

fn port_value(entry: &Entry, value: &Spanned<schema::PortValue>) -> Result<PortValue, Mistake> {
    let &schema::PortValue { port, value: byte } = value.get_ref();
    let own = |range: &Spanned<schema::Ports>| (range.get_ref().from..=range.get_ref().to).contains(&port);
    let own_port = u16::try_from(port).ok().filter(|_| entry.table.ports.iter().any(own));
    Ok(PortValue {
        port: own_port.ok_or_else(|| entry.mistake(value, Problem::QuiescePort(port)))?,
        value: u8::try_from(byte).map_err(|_| entry.mistake(value, Problem::QuiesceValue(byte)))?,
    })
}

fn args(entry: &Entry) -> Result<String, Mistake> {
    let Some(args) = &entry.table.args else { return Ok(String::new()) };
    let text = args.get_ref();
    if text.len() > MAX_ARGS {
        return Err(entry.mistake(args, Problem::ArgsTooLong(text.len(), MAX_ARGS)));
    }
    Ok(text.clone())
}

#[cfg(test)]
mod tests {
    use super::{parse_size, parse_time};

    #[test]
    fn times() {
        assert_eq!(
            [parse_time("0 ms"), parse_time("100 ms"), parse_time("5 s")],
            [Some(0), Some(100), Some(5000)]
        );
        for bad in ["", "5", "ms", "5ms", "5 m", "-5 s", "+5 s", "5  s", "3601 s", "4294968 s"] {
            assert_eq!(parse_time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4 MiB"), Some(4 << 20));
        assert_eq!(parse_size("64 KiB"), Some(65536));
        for bad in
            ["", "4", "MiB", " MiB", "4MiB", "4 mib", "+4 KiB", "-4 KiB", "4  KiB", "99999999999999999 MiB"]
        {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }
}
