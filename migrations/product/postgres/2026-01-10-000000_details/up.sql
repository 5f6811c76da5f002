-- What is told of a product only when somebody asks. A table of its own: every change of the stock writes the
-- product's whole row anew, and these texts would go with it each time.
CREATE TABLE product_detail (
    sku               TEXT COLLATE "C" PRIMARY KEY,
    long_description  TEXT,
    supplier          TEXT
);
