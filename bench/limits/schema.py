"""The limit program's catalog: one wide row per image, and indexes that fit the questions asked.

Properties and tags are kept folded on the row, ready to be sent, and as rows of their own that
carry the order of the list, so that every page is one walk along one index.
"""

TABLES = """
CREATE TABLE image (
    id text PRIMARY KEY, name text, status text NOT NULL, visibility text NOT NULL,
    owner text, disk_format text, container_format text, size bigint, virtual_size bigint,
    checksum text, os_hash_algo text, os_hash_value text, os_hidden boolean NOT NULL,
    protected boolean NOT NULL, min_disk integer NOT NULL, min_ram integer NOT NULL,
    created_at text NOT NULL, updated_at text NOT NULL, properties text NOT NULL, tags text NOT NULL
);
CREATE TABLE property (
    name text NOT NULL, value text NOT NULL, created_at text NOT NULL, image_id text NOT NULL
);
CREATE TABLE tag (value text NOT NULL, created_at text NOT NULL, image_id text NOT NULL);
CREATE TABLE member (project text NOT NULL, created_at text NOT NULL, image_id text NOT NULL);
"""

INDEXES = """
CREATE INDEX image_order ON image (created_at, id);
CREATE INDEX image_name ON image (name, created_at, id);
CREATE INDEX image_owner ON image (owner, created_at, id);
CREATE INDEX image_visible ON image (visibility, status, created_at, id);
CREATE INDEX image_seen ON image (visibility, created_at, id);
CREATE INDEX property_value ON property (name, value, created_at, image_id);
CREATE INDEX tag_value ON tag (value, created_at, image_id);
CREATE INDEX member_project ON member (project, created_at, image_id);
"""

COLUMNS = (
    "id", "name", "status", "visibility", "owner", "disk_format", "container_format", "size",
    "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "os_hidden", "protected",
    "min_disk", "min_ram", "created_at", "updated_at", "properties", "tags",
)  # fmt: skip
