//! Generates the messages and the gRPC code from `proto/`, with a protobuf compiler in Rust: no `protoc` on the machine is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = ["proto/dispatch.proto", "proto/processing.proto"];
    let descriptors = protox::compile(protos, ["proto"])?;
    for proto in protos {
        println!("cargo:rerun-if-changed={proto}");
    }
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
