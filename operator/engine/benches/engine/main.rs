//! How many events a second the engine takes on one core, and how many bytes a waiting job takes in it.
//!
//! `cargo bench -p kinora-engine [-- --json] [-- --write docs/benchmarks/engine.md] [-- --events 400000]`
//!
//! A world of 20,000 live jobs is driven first, and every event noted; then the same events go into copies of the engine as it
//! was before them, and only that is timed. The copies must end as the driven one did.

mod report;
mod world;

use std::process::ExitCode;

use report::Report;
use world::World;

/// How often the same events are timed; the median counts.
const RUNS: usize = 7;
/// Seconds of the driven world before the events that count.
const WARM_UP: u64 = 90;
/// Waiting jobs whose memory is looked at.
const WAITING: usize = 100_000;

struct Args {
    json: bool,
    write: Option<String>,
    events: usize,
}

fn args() -> Result<Args, String> {
    let mut args = Args {
        json: false,
        write: None,
        events: 400_000,
    };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut value = || given.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            // Cargo says so to every benchmark.
            "--bench" => {}
            "--json" => args.json = true,
            "--write" => args.write = Some(value()?),
            "--events" => {
                let number = value()?.parse();
                args.events = number.map_err(|_| "--events needs a number".to_owned())?;
            }
            other => return Err(format!("{other}: known are --json, --write and --events")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let done = args().and_then(|args| run(&args));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    eprintln!("memory of {WAITING} waiting jobs");
    let bytes_per_job = report::bytes_per(WAITING, || World::waiting(WAITING))?;
    eprintln!(
        "driving a world of {} live jobs for {WARM_UP} s",
        world::LIVE
    );
    let mut world = World::busy();
    world.pass(WARM_UP);
    eprintln!("noting {} events", args.events);
    let recording = world.record(args.events);
    let mut runs = Vec::new();
    for run in 1..=RUNS {
        let took = recording.replay()?;
        let per_second = rate(recording.len(), took);
        eprintln!("run {run} of {RUNS}: {per_second:.0} events/s");
        runs.push(per_second);
    }
    runs.sort_by(f64::total_cmp);
    let report = Report {
        events_per_s: runs[RUNS / 2],
        slowest: runs[0],
        fastest: runs[RUNS - 1],
        bytes_per_job,
        mix: recording.mix(),
    };
    if args.json {
        println!("{}", report.json());
    } else {
        println!("{}", report.text());
    }
    if let Some(path) = &args.write {
        report.write(path)?;
    }
    Ok(())
}

// Counts of events are far below what a float holds exactly.
#[allow(clippy::cast_precision_loss)]
fn rate(events: usize, took: std::time::Duration) -> f64 {
    events as f64 / took.as_secs_f64()
}
