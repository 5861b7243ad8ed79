"""What speaks to BPF: libbpf, the hooks and their tiers, and the bytes that come out of the ring. Knows no pods."""
