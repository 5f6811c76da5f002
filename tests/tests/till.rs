//! `stockloop till` on a real Kafka: what it writes, and what it refuses.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use rdkafka::message::Message;
use stockloop_tests::poll::eventually;
use stockloop_tests::process::{Launch, built_binary};
use stockloop_tests::program::{Outcome, Program, assert_contains};

use crate::asyncapi::views::assert_described;
use crate::system::{DEADLINE, PARTITIONS, RealParts, TestSystem};

/// The third line has no more than two columns, and the fourth makes no sense.
const SALES: &str = "\
Invoice;StockCode;Description;Quantity;InvoiceDate;Price;Customer ID
536365;85123A;HEART;6;2010-12-01T08:26:00;2.55;17850
536365;85123A
536365;85123A;HEART;six;1/12/2010 8:26;2,55;
";

#[tokio::test(flavor = "multi_thread")]
async fn a_till_writes_what_its_file_says() {
    let Some(parts) = RealParts::shared("till") else { return };
    let brokers = parts.kafka.brokers();
    let system = TestSystem::prepared("till", parts).await;
    let topic = format!("{}.till", system.topics.events());
    let missing = play(&brokers, &topic, &[]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert_contains(&missing.stderr, &[&topic, "--brokers", "deploy/flink/README.md"]);

    system.topics.create(&topic, PARTITIONS).await;
    let played = play(&brokers, &topic, &["--key", "line", "--rate", "1000"]);
    assert_eq!(played.code, Some(3), "{played:?}");
    assert_contains(&played.stderr, &["line 3: 2 columns instead of 7"]);
    assert_contains(&played.stdout, &["3 lines of standard input: 2 sent to ", "1 refused"]);
    let utf8 =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let messages = system.topics.all_of(&topic);
    let mut written: Vec<(String, String)> =
        messages.iter().map(|message| (utf8(message.key()), utf8(message.payload()))).collect();
    written.sort();
    let line = |quantity: &str, price: &str, customer: &str| {
        format!(
            r#"{{"Invoice":"536365","StockCode":"85123A","Description":"HEART","Quantity":"{quantity}","InvoiceDate":"1/12/2010 8:26","Price":"{price}","Customer ID":"{customer}"}}"#
        )
    };
    let expected = [
        ("536365-L2".to_owned(), line("6", "2.55", "17850")),
        ("536365-L4".to_owned(), line("six", "2,55", "")),
    ];
    assert_eq!(written, expected);
    assert_described("tillSales", &messages);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_sends_each_line_of_a_pipe_as_it_comes() {
    let Some(parts) = RealParts::shared("till_feed") else { return };
    let brokers = parts.kafka.brokers();
    let system = TestSystem::prepared("till_feed", parts).await;
    let topic = format!("{}.till", system.topics.events());
    system.topics.create(&topic, PARTITIONS).await;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo can be started");
    assert!(made.success(), "{made}");
    // Opened for both, it waits for no reader, and has no end.
    let pipe_end = File::options().read(true).write(true).open(&pipe);
    let mut pipe_end = pipe_end.expect("the pipe can be opened");
    let mut till = Launch::new("sh")
        .args(["-c", r#"exec "$0" "$@" <"$TILL_PIPE""#])
        .arg(built_binary("stockloop").expect("the programs are built"))
        .args(["till", "-", "--brokers", &brokers, "--topic", &topic])
        .env("TILL_PIPE", &pipe)
        .spawn()
        .expect("the till can be started");

    let header = SALES.lines().next().expect("a header");
    writeln!(pipe_end, "{header}").expect("the pipe takes it");
    for sold in 1..=2 {
        writeln!(pipe_end, "53636{sold};85123A;HEART;6;1/12/2010 8:26;2.55;17850")
            .expect("the pipe takes it");
        eventually("a line to be sent", DEADLINE, async || {
            let sent = system.topics.all_of(&topic).len();
            if sent == sold { Ok(()) } else { Err((sent, till.log_tail())) }
        })
        .await;
    }
    // Half a line is none.
    write!(pipe_end, "536363;85123A;HEART;6;1/12/2010 8:26;2.55;17").expect("the pipe takes it");
    let ended = tokio::task::block_in_place(|| till.end_with("INT", DEADLINE));
    assert_eq!(ended.expect("it ends").code(), Some(1), "{}", till.log_tail());
    assert_contains(
        &till.log(),
        &["2 lines of standard input, as far as it came: 2 sent to ", "stopped before the end"],
    );
    assert_eq!(system.topics.all_of(&topic).len(), 2);
    system.stop().await;
}

fn play(brokers: &str, topic: &str, options: &[&str]) -> Outcome {
    let args = ["till", "-", "--brokers", brokers, "--topic", topic];
    let args = [&args[..], options].concat();
    tokio::task::block_in_place(|| Program::built("stockloop").run_on(SALES, &args, &[]))
}
