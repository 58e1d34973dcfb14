//! `cargo xtask`: see `cargo xtask --help`.

fn main() -> std::process::ExitCode {
    kinora_e2e::cli::main()
}
