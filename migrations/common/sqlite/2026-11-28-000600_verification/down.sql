DROP TABLE resync_skipped;
DROP TABLE resync_job;
DROP TABLE verification_key;
DROP TABLE verification;
