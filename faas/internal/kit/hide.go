package kit

// Hide returns err with clean applied to its text. If that changes nothing, it is err itself. The
// causes stay reachable, and with them the texts that a program asks for on purpose.
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
