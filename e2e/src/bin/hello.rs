//! Proof that a cluster works, both ends of it: `hello serve` answers HTTP on port 8080 with its host name,
//! `hello ask <host:port> <tries>` asks until it gets that answer and prints it. `hello true` only ends well.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["true"] => Ok(()),
        ["serve"] => serve(),
        ["ask", address, tries] => ask(address, tries.parse().unwrap_or(1)),
        _ => {
            eprintln!("usage: hello true | hello serve | hello ask <host:port> <tries>");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> std::io::Result<()> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let body = format!("hello from {}\n", name.trim());
    for stream in TcpListener::bind("0.0.0.0:8080")?.incoming() {
        // One bad client must not end the server.
        if let Err(error) = stream.and_then(|stream| answer(stream, &body)) {
            eprintln!("hello: {error}");
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    let _ = stream.read(&mut [0; 4096])?;
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ask(address: &str, tries: u32) -> std::io::Result<()> {
    let mut last = std::io::Error::other("not tried");
    for _ in 0..tries {
        match once(address) {
            Ok(text) => {
                println!("{text}");
                return Ok(());
            }
            Err(error) => last = error,
        }
        std::thread::sleep(PAUSE);
    }
    Err(last)
}

fn once(address: &str) -> std::io::Result<String> {
    let unknown = || std::io::Error::other(format!("{address} has no address"));
    let resolved = address.to_socket_addrs()?.next().ok_or_else(unknown)?;
    let mut stream = TcpStream::connect_timeout(&resolved, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET / HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.split_once("\r\n\r\n")
        .map(|(_, body)| body.trim().to_owned())
        .ok_or_else(|| std::io::Error::other("no HTTP answer"))
}
