DROP TABLE purchases_view;
