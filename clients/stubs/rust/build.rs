//! Makes the stubs from what buf has read of the protos: no protoc is needed.
use prost::Message;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=tokenbroker.binpb");
    let protos = FileDescriptorSet::decode(std::fs::read("tokenbroker.binpb")?.as_slice())?;
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(protos)?;
    Ok(())
}
