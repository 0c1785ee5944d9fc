//! The load: machines that report their CPU. Ten tags, ten float fields, a row per host every so many seconds; the shape
//! that time series databases are usually compared by. The same seed gives the same bytes.

use std::fmt::Write;

use clap::ValueEnum;

use crate::random::Random;

/// 2026-01-01T00:00:00Z, the time of the first row, in seconds.
pub(crate) const START_S: u64 = 1_767_225_600;
/// Seconds between two rows of a host, where nothing else is said.
pub(crate) const STEP_S: u64 = 10;
/// Times are written with so many digits of seconds, from the first row on until the year 2286.
const SECONDS_DIGITS: usize = 10;
const NANOSECONDS: &str = "000000000";

/// The float columns.
pub(crate) const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];
const REGIONS: [&str; 8] = [
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-central-1",
    "ap-southeast-1",
    "ap-northeast-1",
    "sa-east-1",
];
const SYSTEMS: [&str; 3] = ["Debian12", "Debian13", "Ubuntu24.04"];
const TEAMS: [&str; 4] = ["SF", "NYC", "LON", "CHI"];
const ENVIRONMENTS: [&str; 3] = ["production", "staging", "test"];

/// Field values are walked in ten-thousandths, so that they have four decimals.
pub(crate) const VALUE_SCALE: u32 = 10_000;
const VALUE_MAX: u32 = 100 * VALUE_SCALE;
/// The farthest a value goes in one step: one percent.
const VALUE_STEP_MAX: u32 = VALUE_SCALE;

/// How rows are dealt out to the connections.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Each connection has hosts of its own and sends their rows in order of time, as agents do.
    Host,
    /// Batches of one stream, ordered by time, go to the connections in turn; so rows of a host overtake each other.
    Time,
}

/// What to render.
#[derive(Clone, Copy)]
pub(crate) struct CpuLoad {
    pub seed: u64,
    pub hosts: u32,
    pub rows: usize,
    /// Seconds between two rows of a host.
    pub step_s: u64,
    pub batch_lines: usize,
    pub connections: usize,
    pub order: Order,
}

/// Bodies of write requests, by connection, in the order in which each sends them.
pub(crate) struct RenderedLoad {
    pub by_connection: Vec<Vec<Vec<u8>>>,
    pub rows: usize,
}

impl RenderedLoad {
    pub(crate) fn bytes(&self) -> usize {
        self.by_connection.iter().flatten().map(Vec::len).sum()
    }

    /// Makes every row so many seconds later, in place: what comes next of the same machines, at a fraction of the cost of
    /// rendering it.
    pub(crate) fn delay(&mut self, seconds: u64) {
        for body in self.by_connection.iter_mut().flatten() {
            let mut end = body.len();
            // From the back, where each line's time is.
            while end > 0 {
                let digits_end = end - 1 - NANOSECONDS.len();
                delay_time(&mut body[digits_end - SECONDS_DIGITS..digits_end], seconds);
                end = body[..end - 1]
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |line_feed| line_feed + 1);
            }
        }
    }
}

impl CpuLoad {
    /// Whole hours that every host has rows for.
    pub(crate) fn whole_hours(&self) -> u64 {
        (self.rows / self.hosts as usize) as u64 * self.step_s / 3600
    }

    /// Seconds from the first row until the next that a host would have.
    pub(crate) fn duration_s(&self) -> u64 {
        self.rows.div_ceil(self.hosts as usize) as u64 * self.step_s
    }

    /// How many pairs of a host and an hour have rows.
    pub(crate) fn host_hours(&self) -> usize {
        let hosts = self.hosts as usize;
        (0..hosts)
            .map(|host| {
                let rows_of_host = (self.rows + hosts - 1 - host) / hosts;
                (rows_of_host as u64 * self.step_s).div_ceil(3600) as usize
            })
            .sum()
    }

    /// Line protocol of all rows for `table`.
    pub(crate) fn render(&self, table: &str) -> RenderedLoad {
        let mut dealer = Dealer::new(self.connections, self.batch_lines);
        self.walk(table, |row, host, time_s| {
            let connection = match self.order {
                Order::Host => row % self.hosts as usize % self.connections,
                Order::Time => row / self.batch_lines % self.connections,
            };
            dealer.deal(connection, |line| host.write_line(line, time_s));
        });
        RenderedLoad {
            by_connection: dealer.finish(),
            rows: self.rows,
        }
    }

    /// The mean of every field over all rows, by which answers can be checked.
    pub(crate) fn means(&self) -> [f64; FIELDS.len()] {
        let mut sums = [0_u64; FIELDS.len()];
        for of_host in self.sums_by_host() {
            for (sum, of_host) in sums.iter_mut().zip(of_host) {
                *sum += of_host;
            }
        }
        sums.map(|sum| sum as f64 / f64::from(VALUE_SCALE) / self.rows as f64)
    }

    /// The sum of every field over the rows of each host, in ten-thousandths: exact, so that answers can be checked to the
    /// last digit.
    pub(crate) fn sums_by_host(&self) -> Vec<[u64; FIELDS.len()]> {
        let mut sums = vec![[0_u64; FIELDS.len()]; self.hosts as usize];
        self.walk("", |row, host, _| {
            for (sum, value) in sums[row % self.hosts as usize].iter_mut().zip(host.values) {
                *sum += u64::from(value);
            }
        });
        sums
    }

    /// Visits the rows in order of time, with the host as it is then.
    fn walk(&self, table: &str, mut visit: impl FnMut(usize, &Host, u64)) {
        let mut random = Random::from_seed(self.seed);
        let mut hosts: Vec<Host> = (0..self.hosts)
            .map(|number| Host::new(table, number, &mut random))
            .collect();
        for row in 0..self.rows {
            let time_s = START_S + (row / hosts.len()) as u64 * self.step_s;
            let number = row % hosts.len();
            let host = &mut hosts[number];
            host.step(&mut random);
            visit(row, host, time_s);
        }
    }
}

/// Collects lines into one open body per connection.
struct Dealer {
    batch_lines: usize,
    finished: Vec<Vec<Vec<u8>>>,
    open: Vec<(String, usize)>,
}

impl Dealer {
    fn new(connections: usize, batch_lines: usize) -> Self {
        Dealer {
            batch_lines,
            finished: vec![Vec::new(); connections],
            open: vec![(String::new(), 0); connections],
        }
    }

    fn deal(&mut self, connection: usize, write_line: impl FnOnce(&mut String)) {
        let (body, lines) = &mut self.open[connection];
        write_line(body);
        *lines += 1;
        if *lines == self.batch_lines {
            let capacity = body.len();
            let body = std::mem::replace(body, String::with_capacity(capacity));
            *lines = 0;
            self.finished[connection].push(body.into_bytes());
        }
    }

    fn finish(mut self) -> Vec<Vec<Vec<u8>>> {
        for (finished, (body, lines)) in self.finished.iter_mut().zip(self.open) {
            if lines > 0 {
                finished.push(body.into_bytes());
            }
        }
        self.finished
    }
}

struct Host {
    /// Table and tags: the beginning of every line.
    prefix: String,
    values: [u32; FIELDS.len()],
}

impl Host {
    fn new(table: &str, number: u32, random: &mut Random) -> Self {
        let region = random.choose(&REGIONS);
        let datacenter = ['a', 'b', 'c'][random.below(3) as usize];
        let prefix = format!(
            "{table},hostname={},region={region},datacenter={region}{datacenter},rack={},os={},arch={},team={},\
             service={},service_version={},service_environment={} ",
            host_name(number),
            random.below(100),
            random.choose(&SYSTEMS),
            random.choose(&["x64", "arm64"]),
            random.choose(&TEAMS),
            random.below(20),
            random.below(2),
            random.choose(&ENVIRONMENTS),
        );
        Host {
            prefix,
            values: std::array::from_fn(|_| random.below(VALUE_MAX + 1)),
        }
    }

    fn step(&mut self, random: &mut Random) {
        for value in &mut self.values {
            let change = random.below(2 * VALUE_STEP_MAX + 1);
            *value = (*value + change).saturating_sub(VALUE_STEP_MAX).min(VALUE_MAX);
        }
    }

    fn write_line(&self, line: &mut String, time_s: u64) {
        line.push_str(&self.prefix);
        for (position, (name, value)) in FIELDS.iter().zip(self.values).enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let (whole, decimals) = (value / VALUE_SCALE, value % VALUE_SCALE);
            let _infallible = write!(line, "{comma}{name}={whole}.{decimals:04}");
        }
        let _infallible = writeln!(line, " {time_s}{NANOSECONDS}");
    }
}

/// Adds to a number in decimal digits.
fn delay_time(digits: &mut [u8], seconds: u64) {
    let mut carry = seconds;
    for digit in digits.iter_mut().rev() {
        if carry == 0 {
            break;
        }
        let sum = u64::from(*digit - b'0') + carry;
        *digit = b'0' + (sum % 10) as u8;
        carry = sum / 10;
    }
}

/// The tag value of a host.
pub(crate) fn host_name(number: u32) -> String {
    format!("host_{number}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SMALL: CpuLoad = CpuLoad {
        seed: 42,
        hosts: 7,
        rows: 1_000,
        step_s: STEP_S,
        batch_lines: 50,
        connections: 3,
        order: Order::Host,
    };

    fn lines(load: &RenderedLoad) -> Vec<String> {
        let bodies = load.by_connection.iter().flatten();
        bodies
            .flat_map(|b| std::str::from_utf8(b).unwrap().lines().map(str::to_owned))
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        assert_eq!(
            SMALL.render("cpu").by_connection,
            SMALL.render("cpu").by_connection
        );
        let other = CpuLoad { seed: 43, ..SMALL };
        assert_ne!(
            SMALL.render("cpu").by_connection,
            other.render("cpu").by_connection
        );
    }

    #[test]
    fn means_are_those_of_the_lines() {
        let load = SMALL.render("cpu");
        let sum: f64 = lines(&load)
            .iter()
            .map(|line| {
                let field = line.split("usage_user=").nth(1).unwrap();
                field.split(',').next().unwrap().parse::<f64>().unwrap()
            })
            .sum();
        assert!((sum / 1_000.0 - SMALL.means()[0]).abs() < 1e-9);
    }

    #[test]
    fn later_rows_differ_in_their_time_only() {
        let mut load = SMALL.render("cpu");
        let before = lines(&load);
        load.delay(86_400);
        let after = lines(&load);
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            let (rest_before, time_before) = before.rsplit_once(' ').unwrap();
            let (rest_after, time_after) = after.rsplit_once(' ').unwrap();
            assert_eq!(rest_before, rest_after);
            let seconds = |time: &str| time.parse::<u64>().unwrap() / 1_000_000_000;
            assert_eq!(seconds(time_before) + 86_400, seconds(time_after));
        }
    }

    #[test]
    fn hours_of_hosts_are_counted() {
        let hours_of_rows = |rows| CpuLoad { rows, ..SMALL }.host_hours();
        assert_eq!(
            [0, 1, 7, 7 * 360, 7 * 360 + 1].map(hours_of_rows),
            [0, 1, 7, 7, 8]
        );
    }

    #[test]
    fn every_row_is_a_point_of_its_own() {
        for order in [Order::Host, Order::Time] {
            let load = CpuLoad { order, ..SMALL }.render("cpu");
            let points: BTreeSet<String> = lines(&load)
                .iter()
                .map(|line| {
                    let parts: Vec<&str> = line.split(' ').collect();
                    assert_eq!(parts[0].split(',').count(), 11, "a table and ten tags: {line}");
                    assert_eq!(parts[1].split(',').count(), 10, "ten fields: {line}");
                    format!("{} {}", parts[0], parts[2])
                })
                .collect();
            assert_eq!(points.len(), 1_000);
        }
    }

    #[test]
    fn by_host_a_connection_has_its_hosts_in_order_of_time() {
        let load = SMALL.render("cpu");
        for (connection, bodies) in load.by_connection.iter().enumerate() {
            let mut last = String::new();
            for line in bodies
                .iter()
                .flat_map(|b| std::str::from_utf8(b).unwrap().lines())
            {
                let host: usize = line["cpu,hostname=host_".len()..]
                    .split(',')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                assert_eq!(host % 3, connection);
                let time = line.rsplit(' ').next().unwrap().to_owned();
                assert!(last <= time);
                last = time;
            }
        }
    }

    #[test]
    fn a_line_is_as_long_as_the_figures_of_the_budget_assume() {
        let load = CpuLoad {
            hosts: 100,
            rows: 10_000,
            ..SMALL
        }
        .render("cpu");
        let bytes_per_row = load.bytes() / load.rows;
        assert!((330..=420).contains(&bytes_per_row), "{bytes_per_row}");
    }
}
