-- The messages that told that an alert is over, one for each channel that had told of it.
ALTER TABLE alert ADD COLUMN over_mail_seq BIGINT;
ALTER TABLE alert ADD COLUMN over_webhook_seq BIGINT;
CREATE INDEX alert_over_unmailed ON alert (closed_us)
    WHERE closed_us IS NOT NULL AND mail_seq IS NOT NULL AND over_mail_seq IS NULL;
CREATE INDEX alert_over_uncalled ON alert (closed_us)
    WHERE closed_us IS NOT NULL AND webhook_seq IS NOT NULL AND over_webhook_seq IS NULL;
CREATE INDEX alert_over_mail ON alert (over_mail_seq) WHERE over_mail_seq IS NOT NULL;
CREATE INDEX alert_over_webhook ON alert (over_webhook_seq) WHERE over_webhook_seq IS NOT NULL;
-- What closed before this moment is not told as over; NULL while that is switched off.
ALTER TABLE service_state ADD COLUMN over_told_from_us BIGINT;
