use std::time::Duration;

use common::config::{AlertSettings, MailSettings, MailTls, MailTransport, WebhookSettings};
use stockloop_tests::tls::Authority;

use super::{alert_settings, mail_settings, webhook_settings};
use crate::alerts::Alerts;

fn refused(change: impl FnOnce(&mut AlertSettings, &mut MailSettings)) -> String {
    let (mut alerts, mut mail) = (alert_settings(), mail_settings());
    mail.transport = MailTransport::Smtp;
    change(&mut alerts, &mut mail);
    tried(&alerts, &mail, &webhook_settings())
}

fn refused_webhook(change: impl FnOnce(&mut WebhookSettings)) -> String {
    let mut webhook = WebhookSettings {
        url: "https://hooks.shop.test/stockloop".to_owned(),
        secret: super::webhook::SECRET.into(),
        ..webhook_settings()
    };
    change(&mut webhook);
    tried(&alert_settings(), &mail_settings(), &webhook)
}

fn tried(alerts: &AlertSettings, mail: &MailSettings, webhook: &WebhookSettings) -> String {
    match Alerts::new("s", "http://s", alerts, mail, webhook) {
        Ok(_) => "fine".to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_wrong_webhook_is_named_and_its_secrets_are_not() {
    let wrong = [
        refused_webhook(|webhook| webhook.secret = String::new().into()),
        refused_webhook(|webhook| webhook.secret = "s3cret".into()),
        refused_webhook(|webhook| webhook.secret = "whsec_s3cret!".into()),
        refused_webhook(|webhook| webhook.secret = "whsec_c2hvcnQ=".into()),
        refused_webhook(|webhook| webhook.url = "hooks.shop.test".to_owned()),
        refused_webhook(|webhook| webhook.url = "/s3cret".to_owned()),
        refused_webhook(|webhook| webhook.url = "ftp://hooks.shop.test/s3cret".to_owned()),
        refused_webhook(|webhook| webhook.url = "https://u:s3cret@hooks.shop.test/".to_owned()),
        refused_webhook(|webhook| webhook.url = "https://hooks shop".to_owned()),
        refused_webhook(|webhook| webhook.timeout = Duration::ZERO),
    ]
    .join("\n");
    assert!(!wrong.contains("s3cret"), "{wrong}");
    insta::assert_snapshot!("wrong_webhook", wrong);
    assert_eq!(refused_webhook(|_| {}), "fine");
    assert_eq!(refused_webhook(|webhook| webhook.url = "http://127.0.0.1:9000".to_owned()), "fine");
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
fn authorities_are_of_a_file_and_for_tls() {
    let missing = refused(|_, mail| {
        mail.tls = MailTls::Tls;
        mail.ca_file = "no/such.pem".to_owned();
    });
    assert!(missing.contains("mail.ca_file \"no/such.pem\" can't be read"), "{missing}");
    let plain = refused(|_, mail| mail.ca_file = "no/such.pem".to_owned());
    assert!(plain.contains("mail.tls is none"), "{plain}");
    let missing = refused_webhook(|webhook| webhook.ca_file = "no/such.pem".to_owned());
    assert!(missing.contains("webhook.ca_file \"no/such.pem\" can't be read"), "{missing}");
    let ours = Authority::new("ours").unwrap();
    let plain = refused_webhook(|webhook| {
        webhook.url = "http://127.0.0.1:9000".to_owned();
        webhook.ca_file = ours.file();
    });
    assert!(plain.contains("webhook.ca_file is set, but"), "{plain}");
    assert_eq!(refused_webhook(|webhook| webhook.ca_file = ours.file()), "fine");
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
