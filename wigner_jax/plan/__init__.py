"""What to compute, decided once on the host: cells, symmetry, meshes, triplets. numpy and spglib only."""
