//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"hsmemu/applet/apdu"
	"hsmemu/vsmartcard/pcscd"
)

// holding are script commands of a program that stays connected to a card, which
// the tools do not: with it the card keeps its power, and what it was told last.
//
//	hold NAME READER            connect to the card in the reader with this number
//	tell NAME [-o FILE] HEX...  send command APDUs, print each as "> HEX" and its answer as "< HEX";
//	                            the data of the last answer go into the file. @FILE stands for the words in a file
//	release NAME                disconnect
var holding = map[string]func(*testscript.TestScript, bool, []string){
	"hold": onStage((*stage).hold), "tell": onStage((*stage).tell), "release": onStage((*stage).release),
}

// holder is a client of the stage's readers and the card it holds.
type holder struct {
	client *pcscd.Client
	card   *pcscd.Handle
}

func (s *stage) hold(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 || s.readers == nil || s.holders[args[0]].client != nil {
		ts.Fatalf("usage: hold NAME READER, with a NAME that is free, after pcscd start")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := pcscd.Dial(ctx, s.readers.socket())
	if err != nil {
		return err
	}
	h := holder{client: client}
	all, err := client.Readers(ctx)
	if err == nil && n >= len(all) {
		err = fmt.Errorf("there are %d readers", len(all))
	}
	if err == nil {
		h.card, err = client.Connect(ctx, all[n].Name, pcscd.Shared, pcscd.T1)
	}
	if err != nil {
		return errors.Join(err, client.Close())
	}
	if s.holders == nil {
		s.holders = map[string]holder{}
	}
	s.holders[args[0]] = h
	return nil
}

func (s *stage) tell(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 || s.holders[args[0]].client == nil {
		ts.Fatalf("usage: tell NAME [-o FILE] HEX..., after hold NAME READER")
	}
	h, args := s.holders[args[0]], args[1:]
	file := ""
	if args[0] == "-o" && len(args) > 2 {
		file, args = ts.MkAbs(args[1]), args[2:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var last apdu.Response
	for _, text := range spelledOut(ts, args) {
		command, err := apdu.ParseHex(text)
		if err != nil {
			return err
		}
		answer, err := h.card.Transmit(ctx, command)
		if err != nil {
			return err
		}
		if last, err = apdu.ParseResponse(answer); err != nil {
			return err
		}
		fmt.Fprintf(ts.Stdout(), "> %X\n< %X\n", command, answer)
	}
	if file == "" {
		return nil
	}
	return os.WriteFile(file, last.Data, 0o600)
}

// spelledOut puts the words of files where @FILE stands.
func spelledOut(ts *testscript.TestScript, args []string) []string {
	var all []string
	for _, arg := range args {
		if file, ok := strings.CutPrefix(arg, "@"); ok {
			all = append(all, strings.Fields(ts.ReadFile(file))...)
			continue
		}
		all = append(all, arg)
	}
	return all
}

func (s *stage) release(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 || s.holders[args[0]].client == nil {
		ts.Fatalf("usage: release NAME, after hold NAME READER")
	}
	h := s.holders[args[0]]
	delete(s.holders, args[0])
	return h.client.Close()
}
