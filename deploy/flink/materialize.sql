-- NOT RUN here: the same tables and views in Materialize's dialect, as its documentation has it. What each is, and why, is
-- said in inventory.sql, sales.sql and purchases.sql. What stands in ${…} has to be replaced.

CREATE CONNECTION broker TO KAFKA (BROKER '${BROKERS}', SECURITY PROTOCOL = 'PLAINTEXT');

-- The inventory --------------------------------------------------------------------------------------------------------

CREATE SOURCE inventory_events
FROM KAFKA CONNECTION broker (TOPIC 'stockloop.inventory.v1')
FORMAT JSON
INCLUDE HEADER 'stockloopepoch' AS epoch
ENVELOPE NONE;

-- The newest state of each product, by (epoch, version).
CREATE VIEW newest AS
SELECT DISTINCT ON (sku) *
FROM (
  SELECT
    data ->> 'sku' AS sku, data ->> 'description' AS description, (data ->> 'quantity')::bigint AS quantity,
    (data ->> 'unit_price_minor')::bigint AS unit_price_minor, (data ->> 'removed')::boolean AS removed,
    epoch::bigint AS epoch, (data ->> 'version')::bigint AS version, data ->> 'updated_at' AS updated_at
  FROM inventory_events
) AS states
ORDER BY sku, epoch DESC, version DESC;

-- The value of each product's stock: a view to ask, and a topic.
CREATE MATERIALIZED VIEW stock_value AS
SELECT
  sku, description, quantity, unit_price_minor, quantity::numeric * unit_price_minor AS value_minor, epoch, version,
  updated_at
FROM newest
WHERE NOT removed;

CREATE SINK stock_value_topic
FROM stock_value
INTO KAFKA CONNECTION broker (TOPIC 'stockloop.views.stock_value.v1')
KEY (sku) NOT ENFORCED
KEY FORMAT TEXT VALUE FORMAT JSON
ENVELOPE UPSERT;

-- The sales ------------------------------------------------------------------------------------------------------------

CREATE SOURCE order_events
FROM KAFKA CONNECTION broker (TOPIC 'stockloop.orders.v1')
FORMAT JSON
INCLUDE HEADER 'ce_id' AS event_id, HEADER 'ce_type' AS event_type
ENVELOPE NONE;

CREATE SOURCE order_acks
FROM KAFKA CONNECTION broker (TOPIC 'stockloop.orders.acks.v1')
FORMAT JSON
ENVELOPE NONE;

-- Each line of a placed order once.
CREATE VIEW placed AS
SELECT DISTINCT
  data ->> 'order_id' AS order_id, event_id, data ->> 'customer' AS customer, data ->> 'placed_at' AS placed_at,
  line ->> 'sku' AS sku, (line ->> 'quantity')::bigint AS quantity
FROM order_events CROSS JOIN LATERAL jsonb_array_elements(data -> 'lines') AS lines (line)
WHERE event_type = 'stockloop.order.placed';

-- The events for which the stock was taken.
CREATE VIEW fulfilled AS
SELECT DISTINCT ack ->> 'event_id' AS event_id
FROM order_acks CROSS JOIN LATERAL jsonb_array_elements(data -> 'acks') AS acks (ack)
WHERE ack ->> 'outcome' = 'SUCCESS' AND ack ->> 'consumer' = 'product-service';

-- The orders that somebody cancelled.
CREATE VIEW cancelled AS
SELECT DISTINCT data ->> 'order_id' AS order_id FROM order_events WHERE event_type = 'stockloop.order.cancelled';

-- Web orders: a sale once the stock is taken.
CREATE VIEW web_sales AS
SELECT
  'web' AS channel, order_id AS sale_id, sku AS line_id, customer, sku, quantity, NULL::bigint AS unit_price_minor,
  placed_at AS sold_at, cancelled.order_id IS NOT NULL AS cancelled
FROM placed
JOIN fulfilled USING (event_id)
LEFT JOIN cancelled USING (order_id);

CREATE SOURCE till_lines
FROM KAFKA CONNECTION broker (TOPIC 'till.sales.v1')
KEY FORMAT TEXT VALUE FORMAT TEXT
INCLUDE KEY AS message_key, PARTITION AS source_partition, OFFSET AS source_offset
ENVELOPE NONE;

-- The till's columns, each as text. Materialize can't test whether a text is JSON, and stops the view if it reads one that
-- is not: only what looks like an object is read, and a line that looks so and is none has to be kept out before.
CREATE VIEW till_columns AS
SELECT
  source_partition, source_offset, message_key, line,
  trim(value ->> 'Invoice') AS invoice, trim(value ->> 'StockCode') AS stock_code, trim(value ->> 'Quantity') AS quantity,
  regexp_match(
    trim(value ->> 'InvoiceDate'), '^([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}) ([01]?[0-9]|2[0-3]):([0-5][0-9])$'
  ) AS invoice_date,
  trim(value ->> 'Price') AS price,
  nullif(regexp_replace(trim(value ->> 'Customer ID'), '[.]0$', ''), '') AS customer,
  value IS NOT NULL AS is_object
FROM (
  SELECT
    source_partition, source_offset, message_key, text AS line,
    CASE WHEN text ~ '^\s*[{]\s*".*[}]\s*$' THEN text::jsonb END AS value
  FROM till_lines
) AS texts;

-- The same as values. There is no 31st of February: a day counts if it is still in its month.
CREATE VIEW till_values AS
SELECT
  *,
  CASE WHEN quantity ~ '^[+-]?[0-9]{1,9}$' THEN quantity::bigint END AS pieces,
  CASE WHEN price ~ '^[0-9]{1,12}([.][0-9]{1,2}0*)?$' THEN (price::numeric * 100)::bigint END AS unit_price_minor,
  CASE
    WHEN extract(month FROM month + (invoice_date[1]::int - 1) * INTERVAL '1 day') = invoice_date[2]::int
      AND invoice_date[1]::int > 0
    THEN month + (invoice_date[1]::int - 1) * INTERVAL '1 day'
  END AS sold_at
FROM (
  SELECT
    *,
    CASE
      WHEN invoice_date[2]::int BETWEEN 1 AND 12
      THEN make_timestamp(
        invoice_date[3]::bigint, invoice_date[2]::bigint, 1, invoice_date[4]::bigint, invoice_date[5]::bigint, 0
      )
    END AS month
  FROM till_columns
) AS months;

-- With the first reason why a line makes no sense.
CREATE VIEW till AS
SELECT
  *,
  CASE
    WHEN NOT is_object THEN 'it is not a JSON object'
    WHEN invoice IS NULL OR invoice = '' THEN 'Invoice is missing'
    WHEN stock_code IS NULL OR stock_code = '' THEN 'StockCode is missing'
    WHEN stock_code !~ '^[^[:cntrl:]]{1,64}$' THEN 'StockCode is longer than 64 characters or holds control characters'
    WHEN pieces IS NULL THEN 'Quantity is not a whole number below a billion'
    WHEN pieces = 0 THEN 'Quantity is 0'
    WHEN sold_at IS NULL THEN 'InvoiceDate is not a time like 1/12/2010 8:26'
    WHEN price ~ '^-' THEN 'Price is below zero'
    WHEN unit_price_minor IS NULL THEN 'Price is not an amount like 2.55'
  END AS reason
FROM till_values;

-- The till's lines. The same line twice is one.
CREATE VIEW till_sales AS
SELECT DISTINCT
  'till' AS channel, invoice AS sale_id, md5(coalesce(message_key, '') || ' ' || line) AS line_id, customer,
  stock_code AS sku, pieces AS quantity, unit_price_minor,
  to_char(sold_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS sold_at, FALSE AS cancelled
FROM till
WHERE reason IS NULL;

-- The lines of all channels. A new channel is one more SELECT here.
CREATE MATERIALIZED VIEW sales AS
SELECT * FROM web_sales
UNION ALL
SELECT * FROM till_sales;

CREATE SINK sales_topic
FROM sales
INTO KAFKA CONNECTION broker (TOPIC 'stockloop.sales.v1')
KEY (channel, sale_id, line_id) NOT ENFORCED
FORMAT JSON
ENVELOPE UPSERT;

-- The till's lines that make no sense.
CREATE MATERIALIZED VIEW till_dead AS
SELECT source_partition AS "partition", source_offset AS "offset", reason, message_key, line
FROM till
WHERE reason IS NOT NULL;

CREATE SINK till_dead_topic
FROM till_dead
INTO KAFKA CONNECTION broker (TOPIC 'till.sales.dead.v1')
KEY ("partition", "offset") NOT ENFORCED
FORMAT JSON
ENVELOPE UPSERT;

-- The last five purchases ----------------------------------------------------------------------------------------------

-- A purchase: an order or an invoice with its lines.
CREATE VIEW purchase AS
SELECT
  customer, channel, sale_id, max(sold_at) AS sold_at, sum(quantity) AS pieces,
  CASE WHEN count(unit_price_minor) = count(*) THEN sum(quantity * unit_price_minor) END AS total_minor,
  jsonb_agg(jsonb_build_object('sku', sku, 'quantity', quantity, 'unit_price_minor', unit_price_minor) ORDER BY sku, line_id)
    AS lines
FROM sales
WHERE customer IS NOT NULL AND sold_at IS NOT NULL AND quantity > 0 AND NOT cancelled
GROUP BY customer, channel, sale_id;

-- The last five of each customer.
CREATE VIEW last_five AS
SELECT customers.customer, five.*
FROM (SELECT DISTINCT customer FROM purchase) AS customers
CROSS JOIN LATERAL (
  SELECT channel, sale_id, sold_at, pieces, total_minor, lines
  FROM purchase
  WHERE purchase.customer = customers.customer
  ORDER BY sold_at DESC, channel DESC, sale_id DESC
  LIMIT 5
) AS five;

-- One row per customer: a view to ask, and a topic. The version counts what happened to the customer's lines.
CREATE MATERIALIZED VIEW purchases AS
SELECT
  customer, sum(step) AS version,
  coalesce(jsonb_agg(purchase ORDER BY place) FILTER (WHERE place > 0), '[]') AS purchases
FROM (
  SELECT
    customer, 0 AS step,
    row_number() OVER (PARTITION BY customer ORDER BY sold_at DESC, channel DESC, sale_id DESC) AS place,
    jsonb_build_object(
      'sold_at', sold_at, 'channel', channel, 'sale_id', sale_id, 'pieces', pieces, 'total_minor', total_minor,
      'lines', lines
    ) AS purchase
  FROM last_five
  UNION ALL
  SELECT customer, CASE WHEN cancelled THEN 2 ELSE 1 END, 0, NULL::jsonb
  FROM sales
  WHERE customer IS NOT NULL
) AS parts
GROUP BY customer;

CREATE SINK purchases_topic
FROM purchases
INTO KAFKA CONNECTION broker (TOPIC 'stockloop.views.purchases.v1')
KEY (customer) NOT ENFORCED
KEY FORMAT TEXT VALUE FORMAT JSON
ENVELOPE UPSERT;
