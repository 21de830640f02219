//! Putting objects: whole, or, where they are long, in parts, several at once.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
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
        let put = self.client.put_object().bucket(&self.place.bucket).key(key);
        let hashed = hash(&content).await?;
        let put = put.content_length(length as i64).body(ByteStream::from(content));
        let put = put.customize().interceptor(hashed);
        self.request(Operation::Put, key, length, put.send()).await.map(drop)
    }

    /// In parts, several at once. What was sent of one that fails is taken back.
    pub(super) async fn put_in_parts(&self, key: &str, content: Bytes) -> Result<(), Fault> {
        let begin = || self.client.create_multipart_upload().bucket(&self.place.bucket).key(key).send();
        let begun = again(|| self.request(Operation::Put, key, 0, begin())).await?;
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
        let put = self.client.upload_part().bucket(&self.place.bucket).key(key).upload_id(id);
        let put = put.part_number(number).content_length(length as i64).body(ByteStream::from(part));
        let put = put.customize().interceptor(hashed);
        let put = self.request(Operation::Put, key, length, put.send()).await?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(put.e_tag).build())
    }
}
