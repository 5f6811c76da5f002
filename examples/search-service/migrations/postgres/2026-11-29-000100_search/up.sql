-- The words by which products are found.
CREATE TABLE word (
    text  TEXT NOT NULL,
    sku   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (text, sku)
);
CREATE INDEX word_of_sku ON word (sku);
