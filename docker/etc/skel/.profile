# Login shells read this, and other shells ~/.bashrc: here both are the same. PATH is the image's; see /etc/profile.d.
[ -z "${BASH_VERSION:-}" ] || [ ! -f "$HOME/.bashrc" ] || . "$HOME/.bashrc"
