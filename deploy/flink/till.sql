-- The channel of a till: its sales as lines of the shape, and in the topic, that sales.sql describes.

-- A job that is killed goes on from its last checkpoint, which it then owns and deletes after the next one.
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'execution.state-recovery.claim-mode' = 'CLAIM';
SET 'parallelism.default' = '1';

-- The lines of all channels, as in sales.sql.
CREATE TABLE sales (
  channel STRING,
  sale_id STRING,
  line_id STRING,
  customer STRING,
  sku STRING,
  quantity BIGINT,
  unit_price_minor BIGINT,
  sold_at STRING,
  cancelled BOOLEAN,
  PRIMARY KEY (channel, sale_id, line_id) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'stockloop.sales.v1',
  'properties.bootstrap.servers' = '${BROKERS}',
  'key.format' = 'json',
  'value.format' = 'json'
);

-- What the till writes: the columns of its file as JSON, or anything else, so it is read as text.
CREATE TABLE till_lines (
  message_key STRING,
  line STRING,
  source_partition INT METADATA FROM 'partition',
  source_offset BIGINT METADATA FROM 'offset'
) WITH (
  'connector' = 'kafka',
  'topic' = 'till.sales.v1',
  'properties.bootstrap.servers' = '${BROKERS}',
  'properties.group.id' = 'stockloop.views.till',
  'scan.startup.mode' = 'earliest-offset',
  'key.format' = 'raw',
  'key.fields' = 'message_key',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY'
);

-- The till's columns, each as text; what is missing is null.
CREATE TEMPORARY VIEW till_columns AS
SELECT
  source_partition, source_offset, message_key, line,
  TRIM(JSON_VALUE(line, '$.Invoice')) AS invoice,
  TRIM(JSON_VALUE(line, '$.StockCode')) AS stock_code,
  TRIM(JSON_VALUE(line, '$.Quantity')) AS quantity,
  TRIM(JSON_VALUE(line, '$.InvoiceDate')) AS invoice_date,
  TRIM(JSON_VALUE(line, '$.Price')) AS price,
  -- Spreadsheets make 17850.0 of the number 17850.
  NULLIF(REGEXP_REPLACE(TRIM(JSON_VALUE(line, '$[''Customer ID'']')), '\.0$', ''), '') AS customer
FROM till_lines;

-- The same as values; what can't be read is null. The till writes local time, which is taken for UTC.
CREATE TEMPORARY VIEW till_values AS
SELECT
  source_partition, source_offset, message_key, line, invoice, stock_code, customer, price,
  CASE WHEN REGEXP(quantity, '^[+-]?[0-9]{1,9}$') THEN TRY_CAST(quantity AS BIGINT) END AS quantity,
  -- Of the 31st of February TO_TIMESTAMP makes the 28th, so the day has to be the one that was written.
  CASE
    WHEN REGEXP(invoice_date, '^[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}( ([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?)?$')
      AND EXTRACT(DAY FROM TO_TIMESTAMP(invoice_date, 'd/M/yyyy[ H:mm[:ss]]'))
        = TRY_CAST(REGEXP_EXTRACT(invoice_date, '^([0-9]+)/', 1) AS INT)
    THEN TO_TIMESTAMP(invoice_date, 'd/M/yyyy[ H:mm[:ss]]')
  END AS sold_at,
  -- More than two decimals are not rounded: whole pence are needed.
  CASE
    WHEN REGEXP(price, '^[0-9]{1,12}([.][0-9]{1,2}0*)?$')
    THEN CAST(TRY_CAST(price AS DECIMAL(14, 2)) * 100 AS BIGINT)
  END AS unit_price_minor
FROM till_columns;

-- With the first reason why a line makes no sense; null if it does.
CREATE TEMPORARY VIEW till AS
SELECT
  *,
  CASE
    WHEN line IS NULL OR line IS NOT JSON OBJECT THEN 'it is not a JSON object'
    WHEN invoice IS NULL OR invoice = '' THEN 'Invoice is missing'
    WHEN stock_code IS NULL OR stock_code = '' THEN 'StockCode is missing'
    WHEN NOT REGEXP(stock_code, '^[^\p{Cntrl}]{1,64}$')
    THEN 'StockCode is longer than 64 characters or holds control characters'
    WHEN quantity IS NULL THEN 'Quantity is not a whole number below a billion'
    WHEN quantity = 0 THEN 'Quantity is 0'
    WHEN sold_at IS NULL THEN 'InvoiceDate is not a time like 1/12/2010 8:26'
    WHEN REGEXP(price, '^-') THEN 'Price is below zero'
    WHEN unit_price_minor IS NULL THEN 'Price is not an amount like 2.55'
  END AS reason
FROM till_values;

-- The till's lines that make no sense, as they came, and why. The key says where, so one that is read again is the same.
CREATE TABLE till_dead (
  `partition` INT,
  `offset` BIGINT,
  reason STRING,
  message_key STRING,
  line STRING,
  PRIMARY KEY (`partition`, `offset`) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'till.sales.dead.v1',
  'properties.bootstrap.servers' = '${BROKERS}',
  'key.format' = 'json',
  'value.format' = 'json'
);

-- One job, so that the till's topic is read once.
EXECUTE STATEMENT SET BEGIN

-- The till's lines. Its columns name no line, so the message's key and text do: the same again is the same line.
INSERT INTO sales
SELECT
  'till', invoice, MD5(COALESCE(message_key, '') || ' ' || line), customer, stock_code, quantity, unit_price_minor,
  DATE_FORMAT(sold_at, 'yyyy-MM-dd''T''HH:mm:ss.SSSSSS''Z'''), FALSE
FROM till
WHERE reason IS NULL;

-- The till's lines that make no sense.
INSERT INTO till_dead
SELECT source_partition, source_offset, reason, message_key, line
FROM till
WHERE reason IS NOT NULL;

END;
