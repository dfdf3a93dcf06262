//! What the codec is held to, as ratios within one run.

use super::alternate::Comparison;
use super::buffers::FLAT_SIZES;
use super::record::Allocations;
use super::sides::Side;
use crate::series::Series;

/// One requirement and how it turned out.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What is compared.
    pub what: String,
    /// With whom or what.
    pub against: String,
    /// What must come out.
    pub required: String,
    /// What came out.
    pub result: String,
    /// Where there is a floor that nobody can be faster than: the result of a side
    /// that takes no longer than that.
    pub at_the_floor: Option<String>,
    /// Whether that is enough.
    pub met: bool,
}

/// Whom respire is compared with.
#[derive(Clone, Copy)]
enum Rival {
    /// A certain side.
    One(Side),
    /// The peer with the lowest median of those that took part.
    Best,
}

/// By how much the nanoseconds per byte may differ from one size of input to
/// another. Half of it is room for what does grow with the size: a buffer of
/// three megabytes lies in another cache than one of thirty kilobytes.
const FLAT_MOST: f64 = 1.25;

/// All bars that can be told from these results.
pub fn all(comparisons: &[Comparison], allocations: &[Allocations]) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut faster = |group: &str, columns: &[&str], rival, least| {
        for column in columns {
            let name = format!("{group}/{column}");
            let comparison = comparisons.iter().find(|c| c.workload.name() == name);
            bars.extend(comparison.and_then(|comparison| speed(comparison, rival, least)));
        }
    };
    let rustis = Rival::One(Side::Rustis);
    faster("Framing", &["a", "b", "c"], rustis, 1.4);
    faster("Framing", &["e"], rustis, 1.2);
    faster("Framing", &["e2", "f", "COMMAND"], rustis, 1.0);
    faster("Framing", &["a", "b", "c"], Rival::One(Side::RedisProtocol), 10.0);
    faster("Framing", &["a", "b", "c"], Rival::One(Side::Redis), 10.0);
    faster("Owned values", &["a", "b", "c", "e", "e2", "f", "COMMAND"], Rival::Best, 2.0);
    for comparison in comparisons.iter().filter(|c| c.workload.group() == "Typed extraction") {
        faster("Typed extraction", &[&comparison.workload.column()], Rival::Best, 2.0);
    }
    // Not (d): after 64 MiB went through the caches, its one frame times how
    // much code and data has to come back.
    let many = ["a", "b", "c", "e", "e2", "f", "COMMAND"];
    faster("Frames with handles", &many, rustis, 1.0);
    faster("Encoding", &["a command of five arguments"], Rival::Best, 2.5);
    bars.extend(no_allocations(allocations));
    bars.extend(flat(comparisons));
    bars
}

/// How many times as fast as its rival respire is.
fn speed(comparison: &Comparison, rival: Rival, least: f64) -> Option<Bar> {
    let ours = comparison.series(Side::Respire)?;
    let (side, theirs) = match rival {
        Rival::One(side) => (side, comparison.series(side)?),
        Rival::Best => best_peer(comparison)?,
    };
    let ratio = theirs.ratio(ours);
    let floor = comparison.series(Side::Std);
    Some(Bar {
        what: comparison.workload.name(),
        against: side.to_string(),
        required: format!("≥ {least:.1} ×"),
        result: format!("{ratio:.2} ×"),
        at_the_floor: floor.map(|floor| format!("{:.2} ×", theirs.ratio(floor))),
        met: ratio >= least,
    })
}

fn best_peer(comparison: &Comparison) -> Option<(Side, &Series)> {
    let peers = comparison.sides.iter().filter(|(side, _)| side.is_peer());
    let measured = peers.filter_map(|(side, _)| Some((*side, comparison.series(*side)?)));
    measured.min_by(|(_, one), (_, other)| one.median().total_cmp(&other.median()))
}

/// Framing, feeding, encoding and reading what needs no memory allocate nothing
/// once the buffers have their size.
fn no_allocations(allocations: &[Allocations]) -> Vec<Bar> {
    const GROUPS: [&str; 5] = [
        "Framing/",
        "Frames with handles/",
        "Typed extraction/e as i64",
        "Split reads/",
        "Encoding/",
    ];
    let bar = |group: &str| {
        let in_group = |counted: &&Allocations| {
            let ours = !counted.side.is_peer() && !counted.side.is_floor();
            ours && counted.workload.starts_with(group)
        };
        let counts: Vec<u64> = allocations.iter().filter(in_group).map(|c| c.count).collect();
        let sum: u64 = counts.iter().sum();
        (!counts.is_empty()).then(|| Bar {
            what: group.trim_end_matches('/').to_owned(),
            against: "allocations in the steady state".to_owned(),
            required: "0".to_owned(),
            result: sum.to_string(),
            at_the_floor: None,
            met: sum == 0,
        })
    };
    GROUPS.into_iter().filter_map(bar).collect()
}

/// Feeding byte by byte takes the same time per byte for every size.
fn flat(comparisons: &[Comparison]) -> Vec<Bar> {
    let per_byte = per_byte(comparisons);
    let complete = per_byte.into_iter().filter(|(_, sizes)| sizes.len() == FLAT_SIZES.len());
    let bar = |(shape, sizes): (String, Vec<(usize, Series)>)| {
        let medians = || sizes.iter().map(|(_, series)| series.median());
        let spread = medians().fold(0.0, f64::max) / medians().fold(f64::INFINITY, f64::min);
        Bar {
            what: format!("Byte by byte/{shape}"),
            against: "slowest over fastest size".to_owned(),
            required: format!("≤ {FLAT_MOST} ×"),
            result: format!("{spread:.2} ×"),
            at_the_floor: None,
            met: spread <= FLAT_MOST,
        }
    };
    complete.map(bar).collect()
}

/// Nanoseconds per byte of each shape that is fed byte by byte, with the size of
/// the input in bytes.
pub fn per_byte(comparisons: &[Comparison]) -> Vec<(String, Vec<(usize, Series)>)> {
    let mut shapes: Vec<(String, Vec<(usize, Series)>)> = Vec::new();
    for comparison in comparisons.iter().filter(|comparison| !comparison.workload.peers) {
        let buffer = &comparison.workload.buffer;
        let Some(series) = comparison.series(Side::Respire) else { continue };
        let entry = (buffer.wire.len(), series.per(buffer.wire.len() as f64));
        match shapes.iter_mut().find(|(shape, _)| *shape == buffer.name) {
            Some((_, sizes)) => sizes.push(entry),
            None => shapes.push((buffer.name.clone(), vec![entry])),
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::alternate::Outcome;
    use crate::codec::workload::{Workload, all as workloads};

    fn workload(name: &str) -> Workload {
        workloads(None).unwrap().into_iter().find(|workload| workload.name() == name).unwrap()
    }

    fn comparison(name: &str, sides: &[(Side, f64)]) -> Comparison {
        let outcome = |nanoseconds: f64| match nanoseconds {
            f if f.is_nan() => Outcome::Fails("no".to_owned()),
            f => Outcome::Measured([f, f, f].into_iter().collect()),
        };
        let sides = sides.iter().map(|(side, nanoseconds)| (*side, outcome(*nanoseconds)));
        Comparison { workload: workload(name), sides: sides.collect() }
    }

    fn results(bars: &[Bar]) -> Vec<(&str, &str, bool)> {
        bars.iter().map(|bar| (&*bar.against, &*bar.result, bar.met)).collect()
    }

    #[test]
    fn a_bar_is_met_from_its_ratio_on() {
        let sides = [(Side::Respire, 10.0), (Side::Rustis, 14.0), (Side::Redis, 99.0)];
        let bars = all(&[comparison("Framing/a", &sides)], &[]);
        let expected = [("rustis", "1.40 ×", true), ("redis-rs", "9.90 ×", false)];
        assert_eq!(results(&bars), expected);
    }

    #[test]
    fn the_best_peer_is_the_fastest_that_did_not_fail() {
        let sides = [
            (Side::Respire, 10.0),
            (Side::RespireBorrowed, 1.0),
            (Side::Rustis, 30.0),
            (Side::RedisProtocol, 19.0),
            (Side::Hiredis, f64::NAN),
        ];
        let bars = all(&[comparison("Owned values/a", &sides)], &[]);
        assert_eq!(results(&bars), [("redis-protocol codec", "1.90 ×", false)]);
    }

    #[test]
    fn a_floor_has_no_bar_and_says_what_can_be_had() {
        let sides = [(Side::Std, 8.0), (Side::Respire, 10.0), (Side::Rustis, 12.0)];
        let name = "Typed extraction/m as HashMap<String, String>";
        let bars = all(&[comparison(name, &sides)], &[]);
        assert_eq!(results(&bars), [("rustis", "1.20 ×", false)]);
        assert_eq!(bars[0].at_the_floor.as_deref(), Some("1.50 ×"));
    }

    #[test]
    fn allocations_of_peers_and_of_owned_values_are_nobodys_bar() {
        let counted = |workload: &str, side, count| Allocations {
            workload: workload.to_owned(),
            side,
            count,
            replies: 10,
        };
        let bars = no_allocations(&[
            counted("Framing/a", Side::Respire, 0),
            counted("Framing/b", Side::RespireSingly, 3),
            counted("Framing/b", Side::Redis, 10),
            counted("Owned values/c", Side::Respire, 20),
            counted("Encoding/a command of five arguments", Side::Respire, 0),
        ]);
        let expected = [("Framing", "3", false), ("Encoding", "0", true)]
            .map(|(what, result, met)| (what.to_owned(), result.to_owned(), met));
        let bars = bars.into_iter().map(|bar| (bar.what, bar.result, bar.met));
        assert_eq!(bars.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn growth_with_the_size_misses_the_bar_of_flatness() {
        let line = |size: usize, per_byte: f64| {
            let name = format!("Byte by byte/line of {}", size + 3);
            comparison(&name, &[(Side::Respire, per_byte * (size + 3) as f64)])
        };
        let flat = |last| {
            let [small, middle, large] = FLAT_SIZES;
            all(&[line(small, 10.0), line(middle, 10.0), line(large, last)], &[])
        };
        assert_eq!(results(&flat(12.0)), [("slowest over fastest size", "1.20 ×", true)]);
        assert_eq!(results(&flat(20.0)), [("slowest over fastest size", "2.00 ×", false)]);
    }
}
