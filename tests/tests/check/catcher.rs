//! A mail catcher that has what the services sent.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};
use stockloop_tests::smtp::Mail;

/// Lists the mails as the mail catcher of `stockloop dev` does, until the tests end.
pub(super) fn serve(mails: impl Fn() -> Vec<Mail> + Send + 'static) -> String {
    let mail = |(n, message_id): (usize, String)| {
        json!({
            "id": n.to_string(), "message_id": message_id, "received_at": "2026-01-05T12:00:00Z",
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let list: Vec<Value> = (1..).zip(message_ids(&mails())).map(mail).collect();
            let body = Value::Array(list).to_string();
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        }
    });
    format!("http://{address}")
}

fn message_ids(mails: &[Mail]) -> Vec<String> {
    let id = |mail: &Mail| {
        let text = mail.text();
        let line = text.lines().find(|line| line.to_lowercase().starts_with("message-id:"));
        let (_, id) = line.expect("each mail has one").split_once(':').expect("just found");
        id.trim().trim_matches(['<', '>']).to_owned()
    };
    mails.iter().map(id).collect()
}
