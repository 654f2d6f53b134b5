package cli

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/pflag"
)

// inputFlags are the forms in which a user can write the arguments of a job.
type inputFlags struct {
	text, hex, base64, numbers, file string
	flags                            *pflag.FlagSet
}

var inputNames = []string{"text", "hex", "base64", "numbers", "file"}

func bindInput(flags *pflag.FlagSet) *inputFlags {
	f := &inputFlags{flags: flags}
	flags.StringVar(&f.text, "text", "", "arguments as `text`")
	flags.StringVar(&f.hex, "hex", "", "arguments in `hexadecimal`, with or without 0x")
	flags.StringVar(&f.base64, "base64", "", "arguments in `base64`")
	flags.StringVar(&f.numbers, "numbers", "", "arguments as a JSON `array` of bytes, such as [1,2,255]")
	flags.StringVar(&f.file, "file", "", "arguments from a `file`, - for standard input")
	return f
}

// read returns the arguments, or nil if no flag was given.
func (f *inputFlags) read(stdin io.Reader) ([]byte, error) {
	given := ""
	for _, name := range inputNames {
		if f.flags.Changed(name) {
			if given != "" {
				return nil, usagef("--" + given + " and --" + name + " both say what the arguments are: give one")
			}
			given = name
		}
	}
	if given == "" {
		return nil, nil
	}
	value := map[string]string{"text": f.text, "hex": f.hex, "base64": f.base64, "numbers": f.numbers,
		"file": f.file}[given]
	return parseInput(given, value, stdin)
}

// parseInput reads a value in one of the forms of inputNames.
func parseInput(kind, value string, stdin io.Reader) ([]byte, error) {
	switch kind {
	case "text":
		return []byte(value), nil
	case "hex":
		out, err := hex.DecodeString(strings.TrimPrefix(strings.TrimPrefix(value, "0x"), "0X"))
		if err != nil {
			return nil, usagef("hex: " + strings.TrimPrefix(err.Error(), "encoding/hex: "))
		}
		return out, nil
	case "base64":
		// Accept all four alphabets: users who paste base64 rarely know which one it is.
		text := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimSpace(value)), "=")
		out, err := base64.RawStdEncoding.DecodeString(text)
		if err != nil {
			return nil, usagef("base64: " + err.Error())
		}
		return out, nil
	case "numbers":
		var numbers []uint16
		if err := json.Unmarshal([]byte(value), &numbers); err != nil || numbers == nil {
			return nil, usagef("numbers: want an array of bytes such as [1,2,255]")
		}
		out := make([]byte, len(numbers))
		for i, n := range numbers {
			if n > math.MaxUint8 {
				return nil, usagef(fmt.Sprintf("numbers: %d is not a byte (0 to 255)", n))
			}
			out[i] = byte(n)
		}
		return out, nil
	case "file":
		if value == "-" {
			return io.ReadAll(stdin)
		}
		out, err := os.ReadFile(value)
		if err != nil {
			return nil, usageError{err}
		}
		return out, nil
	}
	return nil, usagef("unknown form of arguments " + strconv.Quote(kind) + ": one of " + strings.Join(inputNames, ", "))
}

// parseJobInput reads "JOB=FORM:VALUE", where FORM is one of inputNames.
func parseJobInput(text string, stdin io.Reader) (uint32, []byte, error) {
	job, rest, ok := strings.Cut(text, "=")
	form, value, ok2 := strings.Cut(rest, ":")
	id, err := strconv.ParseUint(job, 10, 32)
	if !ok || !ok2 || err != nil {
		return 0, nil, usagef("an input is JOB=FORM:VALUE, such as 0=text:hello, 1=hex:0aff, 2=numbers:[1,2] or " +
			"3=file:request.bin, not " + strconv.Quote(text))
	}
	value2, err := parseInput(form, value, stdin)
	return uint32(id), value2, err
}

// outputForms are the forms in which an answer can be shown.
var outputForms = []string{"auto", "text", "hex", "base64", "numbers", "raw"}

// formatOutput writes an answer. The form "auto" writes text as text and everything else in
// hexadecimal.
func formatOutput(form string, output []byte) string {
	switch form {
	case "hex":
		return hex.EncodeToString(output)
	case "base64":
		return base64.StdEncoding.EncodeToString(output)
	case "numbers":
		numbers := make([]string, len(output))
		for i, b := range output {
			numbers[i] = strconv.Itoa(int(b))
		}
		return "[" + strings.Join(numbers, ",") + "]"
	case "raw":
		return string(output)
	case "text":
		return printable(string(output))
	}
	if text := string(output); utf8.Valid(output) && printable(text) == text {
		return text
	}
	return "0x" + hex.EncodeToString(output)
}
