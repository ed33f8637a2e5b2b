"""Which labels are likely wrong, from predictions by models that did not learn from them."""
