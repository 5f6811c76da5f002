DROP TABLE mail_recipient;
