//! A proxy in front of a Kafka broker, told line by line which requests to delay, hold, drop or cut: `help` lists it.

use clap::Parser;
use pelton_tests::proxy::{
    Proxy,
    words::{HELP, Word},
};
use std::{
    io::{BufRead, stdin},
    process::ExitCode,
};

/// Stands between Kafka clients and one broker. Says its address, then reads what to do from standard input, a line each;
/// ends with it.
#[derive(Debug, Parser)]
#[command(after_help = HELP)]
struct Arguments {
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    listen: String,
    /// The broker, by the address it calls itself.
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let proxy = match Proxy::start(&arguments.listen, &arguments.to) {
        Ok(proxy) => proxy,
        Err(why) => {
            eprintln!("kafka-proxy: from {} to {}: {why}", arguments.listen, arguments.to);
            return ExitCode::FAILURE;
        }
    };
    println!("{}", proxy.address());
    for line in stdin().lock().lines() {
        let Ok(line) = line else { break };
        match Word::parse(&line) {
            Ok(word) => println!("{}", word.apply(&proxy)),
            Err(why) => println!("error {why}"),
        }
    }
    ExitCode::SUCCESS
}
