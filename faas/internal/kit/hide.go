package kit

// Hide returns err with clean applied to its text, or err itself if clean changes nothing. The
// causes stay reachable, so a program can still read their original texts on purpose.
func Hide(err error, clean func(string) string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if cleaned := clean(text); cleaned != text {
		return &hidden{cleaned, err}
	}
	return err
}

type hidden struct {
	text  string
	cause error
}

func (h *hidden) Error() string { return h.text }
func (h *hidden) Unwrap() error { return h.cause }
