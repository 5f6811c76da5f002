//! A mail catcher that has what the services sent.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use stockloop_tests::smtp::{Mail, listed};

/// Lists the mails as the mail catcher of `stockloop dev` does, until the tests end.
pub(super) fn serve(mails: impl Fn() -> Vec<Mail> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let body = listed(&mails()).to_string();
            // Each connection has one answer: who does not know would ask once more while it is being closed.
            let head = format!("connection: close\r\ncontent-length: {}", body.len());
            let _ = write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        }
    });
    format!("http://{address}")
}
