package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"hsmemu/emulator/portal"
	"hsmemu/emulator/portal/records"
	"hsmemu/emulator/ram"
)

func newPortalCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "portal",
		Short: "be the portal that updates firmware",
		Long:  "The vendor's portal, as far as it concerns cards: firmware updates by RAM over HTTP.",
		RunE:  helpOrUnknown,
	}
	cmd.AddCommand(newPortalServeCommand(a))
	return cmd
}

func newPortalServeCommand(a *app) *cobra.Command {
	var listen, data string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "update every card that connects by RAM over HTTP",
		Long: "Waits for cards at the URL that it prints, and updates each to the newest firmware of its generation, by the\n" +
			"rules of the vendor's portal: a card without keys that has an older one, or a card with a blocked SO-PIN, five times\n" +
			"at most. It becomes a new device, as shipped. Everybody who reaches the address can connect a card; there is no\n" +
			"login. What is known of cards, and the issuer's keys, are in the data folder.",
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.servePortal(cmd.Context(), listen, data)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "wait for cards at `HOST:PORT`")
	cmd.Flags().StringVar(&data, "data", "", "`FOLDER` of the portal's records (default portal in the folder of the cards)")
	return cmd
}

// servePortal serves cards until the context ends.
func (a *app) servePortal(ctx context.Context, listen, data string) (err error) {
	if data == "" {
		d, err := a.cards()
		if err != nil {
			return err
		}
		data = filepath.Join(d.Path(), "portal")
	}
	kept, err := records.Open(data, records.Options{Now: time.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	var printing sync.Mutex
	say := func(format string, values ...any) {
		printing.Lock()
		defer printing.Unlock()
		fmt.Fprintf(a.out, format+"\n", values...)
	}
	updater := &portal.Updater{Ledger: kept.Ledger(), Rand: rand.Reader, Now: time.Now, Updated: func(d portal.Done) {
		say("chip %s: firmware %s of %s became %s of %s", d.Chip, d.Old.Firmware, d.Old.Path, d.New.Firmware, d.New.Path)
	}}
	s := &ram.Server{
		Services: map[string]ram.Service{"paas": updater.Serve},
		Ended: func(_ string, _ *ram.Session, err error) {
			if err != nil {
				say("not updated: %s", oneLine(err.Error()))
			}
		},
	}
	h := ram.NewHTTPServer(s)
	stop := context.AfterFunc(ctx, func() { _ = h.Close() })
	defer stop()
	say("http://%s%spaas\nready", l.Addr(), ram.Prefix)
	if err = h.Serve(l); errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, s.Close())
}
