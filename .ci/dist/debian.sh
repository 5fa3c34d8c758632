# shellcheck shell=bash
# What the image with OpenSC has of Debian, and how it is fetched: from where this
# machine's own packages come from, checked against Debian's keys by apt.

# shellcheck disable=SC2034
suite=trixie
# shellcheck disable=SC2034
contents=(
	coreutils dash grep # what scripts of a pipeline need
	libpcsclite1 opensc opensc-pkcs11 openssl
)

# apt_for ARCH FOLDER: sets apt to the command for the release of Debian, with its
# lists and files in FOLDER. Nothing is installed, and nothing needs root.
apt_for() {
	local arch=$1 folder=$2 uri
	# shellcheck disable=SC2016
	uri=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(CREATED_BY)' | awk '$2 == "main" && $3 == "Packages" {print $1; exit}')
	[ -n "$uri" ] || {
		echo "image: this machine's package sources name no Debian" >&2
		return 1
	}
	mkdir -p "$folder"/{etc/{apt.conf.d,preferences.d,sources},state/lists/partial,cache/archives/partial}
	: > "$folder/state/status"
	printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
		"$uri" "$suite" /usr/share/keyrings/debian-archive-keyring.gpg > "$folder/etc/sources/$suite.sources"
	apt=(
		apt-get -q -y
		-o APT::Architecture="$arch" -o APT::Architectures="$arch"
		-o Dir::Etc="$folder/etc" -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$folder/etc/sources"
		-o Dir::State="$folder/state" -o Dir::State::Status="$folder/state/status" -o Dir::Cache="$folder/cache"
		-o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
		-o Acquire::Retries=3 -o APT::Update::Error-Mode=any
	)
	"${apt[@]}" update >&2
}
