-- The inventory as a table, from the events that product-service sends, and the value of each product's stock.

-- A job that is killed goes on from its last checkpoint, which it then owns and deletes after the next one.
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'execution.state-recovery.claim-mode' = 'CLAIM';
-- One task does it all: thousands of changes a second.
SET 'parallelism.default' = '1';

-- The messages as they come: whole states, perhaps twice, perhaps an older one after a newer one.
CREATE TABLE inventory_events (
  sku STRING,
  description STRING,
  quantity BIGINT,
  unit_price_minor BIGINT,
  removed BOOLEAN,
  version BIGINT,
  updated_at STRING,
  headers MAP<STRING, BYTES> METADATA,
  epoch AS TRY_CAST(CAST(headers['stockloopepoch'] AS STRING) AS BIGINT),
  -- (epoch, version) in one column: sorted by two, Flink 2.2 takes the newest states for a table in which nothing ever
  -- changes, and loses removals.
  age AS LPAD(CAST(headers['stockloopepoch'] AS STRING), 19, '0') || LPAD(CAST(version AS STRING), 19, '0')
) WITH (
  'connector' = 'kafka',
  'topic' = 'stockloop.inventory.v1',
  'properties.bootstrap.servers' = '${BROKERS}',
  'properties.group.id' = 'stockloop.views.inventory',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  -- What is no JSON is order-service's to answer; here it is passed by.
  'json.ignore-parse-errors' = 'true'
);

-- The newest state of each product, by (epoch, version). A removed one stays, to keep older states out.
CREATE TEMPORARY VIEW newest AS
SELECT sku, description, quantity, unit_price_minor, removed, epoch, version, updated_at
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY sku ORDER BY age DESC) AS place
  FROM inventory_events
  WHERE sku IS NOT NULL AND epoch IS NOT NULL AND version > 0
)
WHERE place = 1;

-- The inventory: a product that is removed leaves it, and one that is put in again comes back.
CREATE TEMPORARY VIEW inventory AS
SELECT sku, description, quantity, unit_price_minor, epoch, version, updated_at
FROM newest
WHERE removed IS NOT TRUE;

-- A topic with one message per product that counts, the last: key is the SKU, a removed product's value is null.
CREATE TABLE stock_value (
  sku STRING,
  description STRING,
  quantity BIGINT,
  unit_price_minor BIGINT,
  value_minor DECIMAL(38, 0),
  epoch BIGINT,
  version BIGINT,
  updated_at STRING,
  PRIMARY KEY (sku) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'stockloop.views.stock_value.v1',
  'properties.bootstrap.servers' = '${BROKERS}',
  'key.format' = 'raw',
  'value.format' = 'json',
  -- Without it 100 is written as 1E+2.
  'value.json.encode.decimal-as-plain-number' = 'true'
);

-- The value of the stock of each product, below zero for what is owed to backorders. Decimals, since 64 bits may overflow.
INSERT INTO stock_value
SELECT
  sku, description, quantity, unit_price_minor,
  CAST(quantity AS DECIMAL(19, 0)) * CAST(unit_price_minor AS DECIMAL(19, 0)),
  epoch, version, updated_at
FROM inventory;
