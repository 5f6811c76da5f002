-- The last five purchases of each customer, over all channels.

-- A job that is killed goes on from its last checkpoint, which it then owns and deletes after the next one.
SET 'execution.checkpointing.interval' = '10 s';
SET 'execution.checkpointing.externalized-checkpoint-retention' = 'RETAIN_ON_CANCELLATION';
SET 'execution.state-recovery.claim-mode' = 'CLAIM';
SET 'parallelism.default' = '1';
-- What comes within a second changes a customer's message once, and steps in between are not sent.
SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '1 s';
SET 'table.exec.mini-batch.size' = '20000';

-- The lines of all channels, as sales.sql writes them.
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
  'properties.group.id' = 'stockloop.views.purchases',
  'key.format' = 'json',
  'value.format' = 'json',
  'value.json.ignore-parse-errors' = 'true'
);

-- A purchase: an order or an invoice with its lines. A return is no purchase, and takes none back: it names none.
CREATE TEMPORARY VIEW purchase AS
SELECT
  customer, channel, sale_id,
  MAX(sold_at) AS sold_at,
  SUM(quantity) AS pieces,
  -- Null if a line has no price.
  CASE WHEN COUNT(unit_price_minor) = COUNT(*) THEN SUM(quantity * unit_price_minor) END AS total_minor,
  -- Sorted as text: the same lines in the same order, whichever came first.
  ARRAY_JOIN(ARRAY_SORT(ARRAY_AGG(
    '{"sku":' || JSON_STRING(sku) || ',"quantity":' || JSON_STRING(quantity)
    || ',"unit_price_minor":' || COALESCE(JSON_STRING(unit_price_minor), 'null') || '}'
  )), ',') AS lines
FROM sales
WHERE customer IS NOT NULL AND sold_at IS NOT NULL AND quantity > 0 AND cancelled IS NOT TRUE
GROUP BY customer, channel, sale_id;

-- The last five of each customer. When one is cancelled, the sixth is among them again.
CREATE TEMPORARY VIEW last_five AS
SELECT customer, channel, sale_id, sold_at, pieces, total_minor, lines
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY sold_at DESC, channel DESC, sale_id DESC) AS place
  FROM purchase
)
WHERE place <= 5;

-- What a customer's message is made of: the last five as text, and a step for each line that came or was cancelled. The
-- steps add up to the message's version, which only grows, even if all is read from the beginning again, so that any change
-- of the lines makes another message.
CREATE TEMPORARY VIEW parts AS
SELECT
  customer,
  '{"sold_at":' || JSON_STRING(sold_at) || ',"channel":' || JSON_STRING(channel) || ',"sale_id":' || JSON_STRING(sale_id)
  || ',"pieces":' || JSON_STRING(pieces) || ',"total_minor":' || COALESCE(JSON_STRING(total_minor), 'null')
  || ',"lines":[' || lines || ']}' AS purchase,
  0 AS step
FROM last_five
UNION ALL
SELECT customer, CAST(NULL AS STRING), CASE WHEN cancelled THEN 2 ELSE 1 END
FROM sales
WHERE customer IS NOT NULL;

-- A topic with one message per customer that counts, the last: key is the customer, value a JSON document.
CREATE TABLE purchases (
  customer STRING,
  document STRING,
  PRIMARY KEY (customer) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = 'stockloop.views.purchases.v1',
  'properties.bootstrap.servers' = '${BROKERS}',
  'key.format' = 'raw',
  -- SQL sorts no array of rows, so the document is put together as text, which sorts: the newest purchase comes first.
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY'
);

-- The five in one document; none if all are cancelled.
INSERT INTO purchases
SELECT
  customer,
  '{"customer":' || JSON_STRING(customer) || ',"version":' || JSON_STRING(SUM(step)) || ',"purchases":['
  || COALESCE(ARRAY_JOIN(ARRAY_SORT(ARRAY_AGG(purchase) FILTER (WHERE purchase IS NOT NULL), FALSE), ','), '') || ']}'
FROM parts
GROUP BY customer;
