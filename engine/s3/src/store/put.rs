//! Putting objects: whole, or, where they are long, in parts, several at once. With checksums where the bucket takes nothing without,
//! since not every provider takes them.

use std::sync::atomic::Ordering;

use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::byte_stream::ByteStream;
use backstay_vault::store::Operation;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::{PART_BYTES, S3Store, again};
use crate::error::Fault;
use crate::hashing::{Hashed, hash};

impl S3Store {
    pub(super) async fn put_whole(&self, key: &str, content: Bytes) -> Result<(), Fault> {
        let length = content.len() as u64;
        let hashed = &hash(&content).await?;
        let put = |with_checksum: bool| {
            let put = self.client.put_object().bucket(&self.place.bucket).key(key);
            let put = put.content_length(length as i64).body(ByteStream::from(content.clone()));
            let put = put.set_checksum_sha256(with_checksum.then(|| hashed.in_base64()));
            let put = put.customize().interceptor(hashed.clone());
            self.request(Operation::Put, key, length, put.send())
        };
        self.checked(put).await.map(drop)
    }

    /// Without a checksum, until the bucket has asked for them.
    async fn checked<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        put: impl Fn(bool) -> F,
    ) -> Result<T, Fault> {
        let with_checksum = self.wants_checksums.load(Ordering::Relaxed);
        match put(with_checksum).await {
            Err(fault) if !with_checksum && fault.wants_checksum() => {
                self.wants_checksums.store(true, Ordering::Relaxed);
                put(true).await
            }
            answer => answer,
        }
    }

    /// In parts, several at once. What was sent of one that fails is taken back.
    pub(super) async fn put_in_parts(&self, key: &str, content: Bytes) -> Result<(), Fault> {
        let begin = |with_checksum: bool| {
            let begin = self.client.create_multipart_upload().bucket(&self.place.bucket).key(key);
            let begin = begin.set_checksum_algorithm(with_checksum.then_some(ChecksumAlgorithm::Sha256));
            self.request(Operation::Put, key, 0, begin.send())
        };
        let begun = again(|| self.checked(begin)).await?;
        let id = begun.upload_id().ok_or_else(|| Fault::passing("an upload without an id"))?.to_owned();
        match self.put_parts(key, &id, content).await {
            Ok(()) => Ok(()),
            Err(fault) => {
                let abort = self.client.abort_multipart_upload().bucket(&self.place.bucket).key(key);
                let aborted = self.request(Operation::Delete, key, 0, abort.upload_id(&id).send()).await;
                // It may have ended with an answer that was lost.
                if let Err(fault) = aborted
                    && fault.code != "NoSuchUpload"
                {
                    tracing::warn!(key, why = fault.text, "parts of an upload that has failed stay for now");
                }
                Err(fault)
            }
        }
    }

    async fn put_parts(&self, key: &str, id: &str, mut content: Bytes) -> Result<(), Fault> {
        let mut sent = JoinSet::new();
        let mut number = 0;
        while !content.is_empty() {
            number += 1;
            let part = content.split_to(content.len().min(PART_BYTES));
            let (store, key, id) = (self.clone(), key.to_owned(), id.to_owned());
            sent.spawn(async move {
                let (store, key, id) = (&store, &key, &id);
                let hashed = &hash(&part).await?;
                again(|| store.put_part((key, id, number), part.clone(), hashed.clone())).await
            });
        }
        let mut parts = Vec::with_capacity(sent.len());
        while let Some(part) = sent.join_next().await {
            parts.push(part.map_err(|error| Fault::passing(error.to_string()))??);
        }
        parts.sort_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let end = self.client.complete_multipart_upload().bucket(&self.place.bucket).key(key);
        let end = end.upload_id(id).multipart_upload(parts);
        self.request(Operation::Put, key, 0, end.send()).await.map(drop)
    }

    async fn put_part(
        &self,
        (key, id, number): (&str, &str, i32),
        part: Bytes,
        hashed: Hashed,
    ) -> Result<CompletedPart, Fault> {
        let length = part.len() as u64;
        let hashed = &hashed;
        let put = |with_checksum: bool| {
            let put = self.client.upload_part().bucket(&self.place.bucket).key(key).upload_id(id);
            let put = put.part_number(number).content_length(length as i64);
            let put = put.body(ByteStream::from(part.clone()));
            let put = put.set_checksum_sha256(with_checksum.then(|| hashed.in_base64()));
            let put = put.customize().interceptor(hashed.clone());
            self.request(Operation::Put, key, length, put.send())
        };
        let put = self.checked(put).await?;
        let done = CompletedPart::builder().part_number(number).set_e_tag(put.e_tag);
        Ok(done.set_checksum_sha256(put.checksum_sha256).build())
    }
}
