#!/bin/sh
# curl, by hand: tus 1.0, the IETF draft (interop version 6), or the whole file in one plain POST.
set -eu
size=$(stat -c %s "$FILE")
auth="Authorization: Bearer $TOKEN"
quiet='--silent --show-error --fail-with-body --max-time 600'
location() { sed -n 's/^[Ll]ocation: *//p' "$1" | tr -d '\r' | tail -n 1; }

if [ "$PROTOCOL" = post ]; then
  curl $quiet -D "$STATE/head" -o "$STATE/answer" -H "$auth" -H 'Content-Type: video/mp4' --data-binary "@$FILE" "$ENDPOINT" ||
    { cat "$STATE/answer" >&2; exit 1; }
  location "$STATE/head"
  exit
fi

case $PROTOCOL in
  tus)
    speaks='Tus-Resumable: 1.0.0' announces="Upload-Length: $size"
    kind='application/offset+octet-stream' ends='Tus-Resumable: 1.0.0'
    ;;
  draft)
    speaks='Upload-Draft-Interop-Version: 6' announces='Upload-Complete: ?0'
    kind='application/partial-upload' ends='Upload-Complete: ?1'
    ;;
esac

if [ ! -s "$STATE/url" ]; then
  curl $quiet -D "$STATE/head" -X POST -H "$auth" -H "$speaks" -H "$announces" -H 'Content-Length: 0' "$ENDPOINT"
  # The location is a path: it belongs to the host that was asked.
  host=$(printf %s "$ENDPOINT" | sed 's|^\(http://[^/]*\).*|\1|')
  printf '%s%s' "$host" "$(location "$STATE/head")" > "$STATE/url"
fi
url=$(cat "$STATE/url")
curl $quiet --head -o "$STATE/head" -H "$auth" -H "$speaks" "$url"
offset=$(sed -n 's/^[Uu]pload-[Oo]ffset: *//p' "$STATE/head" | tr -d '\r')
tail -c "+$((offset + 1))" "$FILE" > "$STATE/rest"
if [ -s "$STATE/rest" ]; then
  curl $quiet -X PATCH -H "$auth" -H "$speaks" -H "$ends" -H "Upload-Offset: $offset" -H "Content-Type: $kind" \
    --data-binary "@$STATE/rest" "$url" >&2
fi
printf '%s\n' "$url"
