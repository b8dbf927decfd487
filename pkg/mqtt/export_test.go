package mqtt

// BufferSize returns the bytes that r holds on to.
func BufferSize(r *Reader) int { return len(r.buf) }
