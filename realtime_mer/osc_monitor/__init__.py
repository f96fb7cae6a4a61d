"""`realtime-mer osc-monitor`: shows what arrives at a port."""
