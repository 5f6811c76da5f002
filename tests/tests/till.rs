//! `stockloop till` on a real Kafka: what it writes, and what it refuses.

use rdkafka::message::Message;
use stockloop_tests::program::{Outcome, Program, assert_contains};

use crate::system::{PARTITIONS, RealParts, TestSystem};

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
    system.stop().await;
}

fn play(brokers: &str, topic: &str, options: &[&str]) -> Outcome {
    let args = ["till", "-", "--brokers", brokers, "--topic", topic];
    let args = [&args[..], options].concat();
    tokio::task::block_in_place(|| Program::built("stockloop").run_on(SALES, &args, &[]))
}
