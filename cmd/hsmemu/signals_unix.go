//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// ending are the signals that end a command tidily: Ctrl-C, Ctrl-\ and what the
// system sends when somebody stops us or closes our terminal. Whoever has us ignore
// the last, as nohup does, is obeyed.
func ending() []os.Signal {
	all := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}
