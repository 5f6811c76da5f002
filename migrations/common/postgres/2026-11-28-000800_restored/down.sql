DROP TABLE restoration;
DROP TABLE read_position;
