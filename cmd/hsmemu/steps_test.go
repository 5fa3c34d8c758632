//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// steps are script commands that go beyond one program:
//
//	exits CODE PROGRAM ARGUMENT...  run it, expect this exit code
//	start NAME PROGRAM ARGUMENT...  start it and go on; what it says goes into the files NAME.out and NAME.err
//	until FILE REGEXP               wait until a part of the file matches
//	quit NAME | ended NAME          end it with SIGTERM, or wait until it ends by itself; expect exit 0
//	identity READER FILE            write EF 2F02 of the card in a reader into a file, as opensc-tool shows it
//	signs ID MECHANISM              sign with this key of the card by pkcs11-tool, verify with openssl
//	decrypts ID MECHANISM           encrypt with openssl, decrypt with this key of the card by pkcs11-tool
//	derives ID CURVE                derive the same secret with openssl, by its name of the curve, and with this
//	                                key of the card by pkcs11-tool
//	fits DEFINITION                 what the last command has printed is JSON as this definition of
//	                                docs/hsmemu.schema.json says
//
// The commands for keys use the card in the reader with number $READER, 0 at first.
var steps = map[string]func(*testscript.TestScript, bool, []string){
	"exits": onStage((*stage).exits),
	"start": onStage((*stage).startProgram), "quit": onStage((*stage).stopProgram), "ended": onStage((*stage).programEnded),
	"until": onStage((*stage).until), "identity": onStage((*stage).identity),
	"signs": onStage((*stage).signs), "decrypts": onStage((*stage).decrypts), "derives": onStage((*stage).derives),
	"fits": fits,
}

// longPatience is far more than the slowest tool needs on a loaded machine: some ten seconds of computing for a DKEK share.
const longPatience = 5 * patience

// command prepares a program as testscript's exec does, for running it in another way.
func command(ts *testscript.TestScript, name string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name) // testscript has put hsmemu first on the path
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR=") // what it is on this machine is no business of the scripts
	for _, k := range []string{"HSMEMU_STATE", "HOME", "TMPDIR", "PCSCLITE_CSOCK_NAME", "GORACE"} {
		if v := ts.Getenv(k); v != "" {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, nil
}

func (s *stage) exits(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGUMENT...")
	}
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		return err
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
	return nil
}

func (s *stage) startProgram(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 || s.programs[args[0]] != nil {
		ts.Fatalf("usage: start NAME PROGRAM ARGUMENT..., with a NAME that is free")
	}
	cmd, err := command(ts, args[1], args[2:]...)
	if err != nil {
		return err
	}
	out, err := os.Create(ts.MkAbs(args[0] + ".out"))
	if err != nil {
		return err
	}
	defer out.Close()
	said, err := os.Create(ts.MkAbs(args[0] + ".err"))
	if err != nil {
		return err
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Start(); err != nil {
		return err
	}
	if s.programs == nil {
		s.programs = map[string]*exec.Cmd{}
	}
	s.programs[args[0]] = cmd
	return nil
}

// program takes a started program out of the stage's hands.
func (s *stage) program(ts *testscript.TestScript, args []string) *exec.Cmd {
	if len(args) != 1 || s.programs[args[0]] == nil {
		ts.Fatalf("name one program that was started")
	}
	cmd := s.programs[args[0]]
	delete(s.programs, args[0])
	return cmd
}

func (s *stage) stopProgram(ts *testscript.TestScript, args []string) error {
	return end(s.program(ts, args))
}

func (s *stage) programEnded(ts *testscript.TestScript, args []string) error {
	return ended(s.program(ts, args))
}

// end asks a program to end, and ended waits until it has.
func end(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return ended(cmd)
}

func ended(cmd *exec.Cmd) error {
	late := time.AfterFunc(longPatience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	return cmd.Wait()
}

func (s *stage) until(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		ts.Fatalf("usage: until FILE REGEXP")
	}
	want, err := regexp.Compile(`(?m)` + args[1])
	if err != nil {
		return err
	}
	var last []byte
	err = await(func() bool {
		last, err = os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && want.Match(last)
	})
	if err != nil {
		return fmt.Errorf("wait for %q in %s: %w; there is: %s", args[1], args[0], err, last)
	}
	return nil
}

func (s *stage) identity(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		ts.Fatalf("usage: identity READER FILE")
	}
	err := ts.Exec("opensc-tool", "--reader", args[0], "-s", "00A4040C0BE82B0601040181C31F0201", "-s", "00A4000C022F02",
		"-s", "00B10000045402000000", "-s", "00B10000045402010000", "-s", "00B10000045402020000")
	if err != nil {
		return err
	}
	said := ts.ReadFile("stdout")
	if !strings.Contains(said, "7F 21") {
		ts.Fatalf("that is no device certificate: %s", said)
	}
	return os.WriteFile(ts.MkAbs(args[1]), []byte(said), 0o600)
}

// execs runs one program after the other until one fails.
func execs(ts *testscript.TestScript, commands ...[]string) error {
	for _, c := range commands {
		if err := ts.Exec(c[0], c[1:]...); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(c, " "), err)
		}
	}
	return nil
}

// publicKey writes the public key of a key of the card. It asks pkcs15-tool, because pkcs11-tool 0.23 cannot
// write P-384 and some other points, whatever the token.
func publicKey(ts *testscript.TestScript, id string) []string {
	return []string{"pkcs15-tool", "--reader", ts.Getenv("READER"), "--read-public-key", id, "-o", "public.pem"}
}

// withKey is a command of pkcs11-tool that uses a private key of the card.
func withKey(ts *testscript.TestScript, id, mechanism, in, out string, more ...string) []string {
	return append([]string{
		"pkcs11-tool", "--slot-index", ts.Getenv("READER"), "--login", "--pin", ts.Getenv("PIN"),
		"--id", id, "-m", mechanism, "-i", in, "-o", out,
	}, more...)
}

var hashName = regexp.MustCompile(`SHA\d+`)

func (s *stage) signs(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		ts.Fatalf("usage: signs ID MECHANISM")
	}
	id, mechanism := args[0], args[1]
	message := fmt.Sprintf("signed by key %s with %s\n", id, mechanism)
	if err := os.WriteFile(ts.MkAbs("message"), []byte(message), 0o600); err != nil {
		return err
	}
	hash, in := hashName.FindString(mechanism), "message"
	if hash == "" { // the mechanism takes a hash value
		hash, in = "SHA256", "hash"
	}
	var pkcs11, openssl []string
	switch {
	case strings.HasPrefix(mechanism, "ECDSA"):
		pkcs11 = []string{"--signature-format", "openssl"}
	case strings.HasSuffix(mechanism, "PSS"):
		if in == "hash" {
			pkcs11 = []string{"--hash-algorithm", hash, "--mgf", "MGF1-" + hash}
		}
		openssl = []string{"-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"}
	}
	dgst := append([]string{"openssl", "dgst", "-" + strings.ToLower(hash)}, openssl...)
	return execs(ts,
		publicKey(ts, id),
		[]string{"openssl", "dgst", "-" + strings.ToLower(hash), "-binary", "-out", "hash", "message"},
		withKey(ts, id, mechanism, in, "signature", append([]string{"--sign"}, pkcs11...)...),
		append(dgst, "-verify", "public.pem", "-signature", "signature", "message"),
		[]string{"rm", "public.pem", "signature"},
	)
}

func (s *stage) decrypts(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		ts.Fatalf("usage: decrypts ID MECHANISM")
	}
	id, mechanism := args[0], args[1]
	if err := os.WriteFile(ts.MkAbs("clear"), []byte("for key "+id+" alone\n"), 0o600); err != nil {
		return err
	}
	encrypt := []string{"openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", "public.pem", "-in", "clear", "-out", "cipher"}
	var pkcs11 []string
	if strings.HasSuffix(mechanism, "OAEP") {
		pkcs11 = []string{"--hash-algorithm", "SHA256", "--mgf", "MGF1-SHA256"}
		encrypt = append(encrypt, "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256")
	}
	return execs(ts,
		publicKey(ts, id), encrypt,
		withKey(ts, id, mechanism, "cipher", "decrypted", append([]string{"--decrypt"}, pkcs11...)...),
		[]string{"cmp", "clear", "decrypted"},
		[]string{"rm", "public.pem", "decrypted"},
	)
}

func (s *stage) derives(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		ts.Fatalf("usage: derives ID CURVE")
	}
	return execs(ts,
		publicKey(ts, args[0]),
		[]string{"openssl", "ecparam", "-genkey", "-name", args[1], "-noout", "-out", "peer.pem"},
		[]string{"openssl", "pkey", "-in", "peer.pem", "-pubout", "-outform", "DER", "-out", "peer.der"},
		[]string{"openssl", "pkeyutl", "-derive", "-inkey", "peer.pem", "-peerkey", "public.pem", "-out", "theirs"},
		withKey(ts, args[0], "ECDH1-DERIVE", "peer.der", "ours", "--derive"),
		[]string{"cmp", "theirs", "ours"},
		[]string{"rm", "public.pem", "theirs", "ours"},
	)
}
