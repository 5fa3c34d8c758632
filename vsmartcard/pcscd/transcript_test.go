package pcscd_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hsmemu/vsmartcard/pcscd"
)

// Transcripts are what real clients said to this daemon and what it answered.
// They are played without the clients: what a client said then is said again,
// and the daemon has to answer the same. With -update the clients of this
// machine, or those of -clients, are recorded anew.
//
// A line begins with the number of the connection and the direction, '>' for
// what the client says. Bytes are in hexadecimal, a run of zeros is '*' and its
// length. A line of '!' is something that happens in the reader.
var update = flag.Bool("update", false, "record the transcripts of real clients")

// scenario is something to record. Its steps run while the program does.
type scenario struct {
	name    string
	program []string
	steps   []step
}

// step waits for the program to say something, if says is not empty, and
// then until it waits itself, and does what it is named for.
type step struct {
	says string
	does string
}

var scenarios = []scenario{
	{name: "list", program: []string{"opensc-tool", "--list-readers"}},
	{name: "name", program: []string{"opensc-tool", "--name"}},
	{name: "apdu", program: []string{"opensc-tool", "--send-apdu", "00:84:00:00:08"}},
	{name: "wait", program: []string{"opensc-tool", "--wait", "--name"}, steps: []step{{does: "insert"}}},
	{name: "scan", program: []string{"pcsc_scan", "-n"}, steps: []step{
		{"ATR: 3B DE 18 FF", "eject"},
		{"Card removed", "insert"},
		{"ATR: 3B DE 18 FF", "add"},
		{name1, "remove"},
		{"Card inserted", "mute"},
		{"Unresponsive card", "end"},
	}},
}

// stage is a service on which every run is like every other.
func stage(t *testing.T, name string) *service {
	t.Helper()
	s := newServiceOn(t, &pcscd.Server{Grace: -1, Random: &counting{}})
	if name == "wait" {
		require.NoError(t, s.reader.Eject())
	}
	return s
}

// happen does to the readers what a step is named for.
func (s *service) happen(what string) {
	s.t.Helper()
	switch what {
	case "eject":
		require.NoError(s.t, s.reader.Eject())
	case "insert":
		require.NoError(s.t, s.reader.Insert(s.card))
	case "mute":
		s.card.setATR(nil)
		require.NoError(s.t, s.reader.Eject())
		require.NoError(s.t, s.reader.Insert(s.card))
	case "add":
		var err error
		s.second, err = s.server.Add(pcscd.NitrokeyHSM("DENK0765432", 1))
		require.NoError(s.t, err)
	case "remove":
		s.second.Close()
	case "end":
	default:
		require.Fail(s.t, "unknown step", "%s", what)
	}
}

// Shows PCSC-7, PCSC-12 and PCSC-13.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	if *update {
		for _, sc := range scenarios {
			record(t, sc)
		}
	}
	files, err := filepath.Glob("testdata/*.transcript")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			play(t, file)
		})
	}
}

// record runs a program and writes its transcript.
func record(t *testing.T, sc scenario) {
	s := stage(t, sc.name)
	cmd := s.program(sc.program[0], sc.program[1:]...)
	says, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	output := lines(t, says)
	for _, st := range sc.steps {
		if st.says != "" {
			output(st.says)
		}
		s.tap.settled(t)
		s.tap.note(0, '!', []byte(st.does))
		s.happen(st.does)
	}
	if sc.program[0] == "pcsc_scan" {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	} else {
		require.NoError(t, cmd.Wait())
	}
	version := clientVersion(t)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s, with pcsc-lite %s\n", strings.Join(sc.program, " "), version)
	for _, e := range s.tap.recorded() {
		switch e.way {
		case '!':
			fmt.Fprintf(&b, "! %s\n", e.data)
		default:
			fmt.Fprintf(&b, "%d%c %s\n", e.n, e.way, encode(e.data))
		}
	}
	upstream, _, _ := strings.Cut(version, "-")
	file := filepath.Join("testdata", fmt.Sprintf("%s-%s.transcript", sc.name, upstream))
	require.NoError(t, os.MkdirAll("testdata", 0o755))
	require.NoError(t, os.WriteFile(file, b.Bytes(), 0o644))
}

// clientVersion is the version of the client library's package, as its own
// list of changes has it.
func clientVersion(t *testing.T) string {
	t.Helper()
	f, err := os.Open(filepath.Join("/", *clients, "usr/share/doc/libpcsclite1/changelog.Debian.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	text, err := io.ReadAll(z)
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "(")
	require.True(t, ok)
	version, _, ok := strings.Cut(rest, ")")
	require.True(t, ok)
	return version
}

// play says what the client said and compares the answers.
func play(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	name, _, _ := strings.Cut(filepath.Base(file), "-")
	s := stage(t, name)
	conns := make(map[byte]net.Conn)
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		switch {
		case line[0] == '#':
		case line[0] == '!':
			s.happen(line[2:])
		default:
			n := line[0]
			if conns[n] == nil {
				conns[n] = s.raw()
			}
			b := decode(t, line[3:])
			if line[1] == '>' {
				_, err := conns[n].Write(b)
				require.NoError(t, err)
				continue
			}
			require.Equal(t, line[3:], encode(wire{t, conns[n]}.read(len(b))), "line %d", i+1)
		}
	}
	for _, conn := range conns {
		wire{t, conn}.silent()
	}
}

// encode writes bytes in hexadecimal, with runs of zeros cut short.
func encode(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		zeros := len(b) - len(bytes.TrimLeft(b, "\x00"))
		if zeros >= 8 {
			fmt.Fprintf(&s, "*%d ", zeros)
			b = b[zeros:]
			continue
		}
		next := bytes.Index(b, make([]byte, 8))
		if next < 0 {
			next = len(b)
		}
		fmt.Fprintf(&s, "%X ", b[:next])
		b = b[next:]
	}
	return strings.TrimSpace(s.String())
}

func decode(t *testing.T, s string) []byte {
	t.Helper()
	var b []byte
	for word := range strings.FieldsSeq(s) {
		if zeros, ok := strings.CutPrefix(word, "*"); ok {
			n, err := strconv.Atoi(zeros)
			require.NoError(t, err)
			b = append(b, make([]byte, n)...)
			continue
		}
		part, err := hex.DecodeString(word)
		require.NoError(t, err)
		b = append(b, part...)
	}
	return b
}
