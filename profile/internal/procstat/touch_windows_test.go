package procstat

func touch(bytes int) []byte {
	held := make([]byte, bytes)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	return held
}
