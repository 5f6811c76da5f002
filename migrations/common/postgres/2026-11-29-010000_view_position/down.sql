DROP TABLE view_position;
