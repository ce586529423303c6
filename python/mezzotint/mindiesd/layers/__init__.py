"""Of upstream's layers only quant.block_quant is here."""
