use std::time::Duration;

use super::{alert_settings, mail_settings};
use crate::alerts::Alerts;
use crate::config::{AlertSettings, MailSettings, MailTls, MailTransport};

fn refused(change: impl FnOnce(&mut AlertSettings, &mut MailSettings)) -> String {
    let (mut alerts, mut mail) = (alert_settings(), mail_settings());
    mail.transport = MailTransport::Smtp;
    change(&mut alerts, &mut mail);
    match Alerts::new("s", "http://s", &alerts, &mail) {
        Ok(_) => "fine".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn wrong_settings_are_named() {
    let wrong = [
        refused(|_, mail| mail.from = "nobody".to_owned()),
        refused(|alerts, _| alerts.recipients.push("a@b@c".to_owned())),
        refused(|_, mail| mail.host = " ".to_owned()),
        refused(|_, mail| mail.timeout = Duration::ZERO),
        refused(|_, mail| mail.username = "u".to_owned()),
        refused(|_, mail| mail.password = "p".to_owned().into()),
        refused(|_, mail| mail.transport = MailTransport::File),
        refused(|_, mail| {
            mail.transport = MailTransport::File;
            mail.directory = "/dev/null/mails".to_owned();
        }),
    ];
    insta::assert_snapshot!("wrong_settings", wrong.join("\n"));
}

#[test]
fn right_settings_need_no_server() {
    for tls in [MailTls::None, MailTls::Starttls, MailTls::Tls] {
        assert_eq!(refused(|_, mail| mail.tls = tls), "fine");
    }
    assert_eq!(refused(|_, mail| mail.from = "stockloop@localhost".to_owned()), "fine");
    assert_eq!(refused(|_, mail| mail.transport = MailTransport::Off), "fine");
    assert_eq!(refused(|alerts, _| alerts.recipients.clear()), "fine");
}
