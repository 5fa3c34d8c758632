package statedir

import "hsmemu/emulator/store"

// Copy makes a card like another one, which may be running, as it was saved
// last: with the same serial number and the same keys, so that clients cannot
// tell the two apart. Snapshots stay with the other one. opt is how the copy is
// sealed. Errors: ErrName, ErrNoCard, ErrCardExists.
func (d *Dir) Copy(card, to string, opt store.Options) error {
	if err := d.vacant("copy", to); err != nil { // before anybody is asked for a passphrase
		return err
	}
	state, _, err := d.Read(card)
	if err != nil {
		return err
	}
	return d.create("copy", to, state, opt)
}

// Export writes a whole card into a new file outside of the folder.
func (d *Dir) Export(card, file string, opt store.Options) error {
	state, _, err := d.Read(card)
	if err != nil {
		return err
	}
	return failed("export", card, store.Write(file, state, opt))
}
