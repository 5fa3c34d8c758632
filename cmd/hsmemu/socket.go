package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"hsmemu/cmd/hsmemu/commandline"
	"hsmemu/emulator/statedir"
	"hsmemu/emulator/store"
	"hsmemu/vsmartcard/pcscd"
)

// socketFlags say where a private daemon is served, and to whom.
type socketFlags struct{ path, mode, group string }

func (s *socketFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.path, "socket", "", "serve the private PC/SC daemon at `PATH`, also for others (default: exec in a folder of its own, run in $XDG_RUNTIME_DIR/hsmemu or the state folder)")
	cmd.Flags().StringVar(&s.mode, "socket-mode", "", "who may reach --socket: 0600 the owner alone, 0660 its group, too, 0666 everybody (default 0600, with --socket-group 0660)")
	cmd.Flags().StringVar(&s.group, "socket-group", "", "`NAME` of the group of --socket")
}

// access is who may reach the socket.
func (s socketFlags) access() (who pcscd.Access, err error) {
	if s.path == "" && s.mode+s.group != "" {
		return who, commandline.Usage(errors.New("--socket-mode and --socket-group go with --socket PATH: the default place is in a folder that only its owner can enter"))
	}
	if who, err = pcscd.ParseAccess(s.mode, s.group); err != nil {
		return who, commandline.Usage(fmt.Errorf("--socket-mode %w", err))
	}
	return who, nil
}

// listen makes the socket that was asked for.
func (a *app) listen(s socketFlags) (l net.Listener, path string, err error) {
	who, err := s.access()
	if err != nil {
		return nil, "", err
	}
	if path = s.path; path == "" {
		path, err = a.defaultSocket()
	} else {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, "", err
	}
	if l, err = pcscd.ListenOver(path, who); err != nil {
		return nil, "", explainSocket(err, "--socket takes a shorter path")
	}
	if folder := who.Barred(path); folder != "" {
		fmt.Fprintf(a.err, "hsmemu: nobody else reaches the socket, since nobody else can enter the folder %s\n", folder)
	}
	return l, path, nil
}

// busy prefers to say that one of the cards is in use where another process serves
// the socket: that is what whoever runs a card twice has to know.
func (a *app) busy(err error, cards []string) error {
	if errors.As(err, new(*pcscd.ServedError)) {
		err = commandline.Hint(err, "--socket PATH serves at another place")
		d, failed := a.cards()
		if failed != nil {
			return err // that there is a daemon is what has been asked for
		}
		err = cmp.Or(d.InUse(cards), err)
	}
	return whereUsed(err, "`hsmemu status --card %s` tells where it is; another card runs beside it with --card and --socket")
}

// whereUsed adds a hint to the error about a card that is in use, with its name.
func whereUsed(err error, hint string) error {
	for _, one := range each(err) {
		var named *statedir.Error
		if errors.As(one, new(*store.LockedError)) && errors.As(one, &named) {
			return commandline.Hint(err, fmt.Sprintf(hint, named.Card))
		}
	}
	return err
}
