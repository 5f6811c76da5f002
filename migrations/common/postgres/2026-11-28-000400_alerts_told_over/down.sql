ALTER TABLE service_state DROP COLUMN over_told_from_us;
DROP INDEX alert_over_webhook;
DROP INDEX alert_over_mail;
DROP INDEX alert_over_uncalled;
DROP INDEX alert_over_unmailed;
ALTER TABLE alert DROP COLUMN over_webhook_seq;
ALTER TABLE alert DROP COLUMN over_mail_seq;
